"""``fastcifar doctor``: its exit code says whether something required is missing."""

import json
import tempfile

import pytest

from fastcifar.system import caches, doctor, temporary
from fastcifar.system.doctor import leftovers
from fastcifar.system.temporary import beside, hold, own


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A present folder with a runs folder in it, and all other places elsewhere in tmp_path."""
    for name in ("here", "tmp", "shm", "cache", "more"):
        (tmp_path / name).mkdir()
    (tmp_path / "here" / "runs" / "exp1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(temporary, "SHARED", tmp_path / "shm")
    monkeypatch.setattr(caches, "own_folder", lambda: tmp_path / "cache")
    return tmp_path


def left(path, size):
    path.write_bytes(bytes(size))
    return path


def test_doctor_names_what_killed_processes_left_and_clean_removes_it(command, place):
    assert leftovers.leftovers() == doctor.Finding("leftovers", True, "nothing of killed processes")
    left(place / "here" / "precious.partial", 5)
    found = [
        left(own(place / "tmp"), 1_000_000),
        left(place / "shm" / f"sem.{own(place).name}-abcdefgh", 32),
        left(beside(place / "cache" / "speeds.json"), 100),
        left(beside(place / "here" / "runs" / "exp1" / "summary.json"), 7),
    ]
    old = left(beside(place / "here" / "data", "old"), 9)
    living = left(beside(place / "here" / "data"), 3)
    held = hold(living)
    finding = leftovers.leftovers()
    assert (finding.ok, finding.required, finding.cure) == (False, False, "fastcifar doctor --clean")
    assert finding.detail.startswith(f"5 of killed processes, 1.0 MB: {found[0]}, ")
    assert finding.detail.endswith(" and 2 more")
    answer = command("doctor", "--clean")
    assert (answer.code, answer.err) == (0, "")
    sizes = ("1.0 MB", "32 bytes", "100 bytes", "7 bytes")
    lines = [f"removed {path} ({size})" for path, size in zip(found, sizes, strict=True)]
    lines.insert(3, f"moved {old} back to {place / 'here' / 'data'} (9 bytes)")
    assert answer.out.splitlines() == [*lines, "5 leftovers of killed processes, 1.0 MB freed"]
    assert not any(path.exists() for path in found)
    assert (place / "here" / "data").read_bytes() == bytes(9)
    assert living.exists()
    held.end()
    assert json.loads(command("doctor", "--clean", "--json").out) == [
        {"path": str(living), "bytes": 3, "moved_to": None}
    ]
    assert command("doctor", "--clean").out == "0 leftovers of killed processes, 0 bytes freed\n"
    assert (place / "here" / "precious.partial").exists()


def test_other_folders_are_cleaned_where_they_are_named(command, place):
    (place / "more" / "below").mkdir()
    path = left(beside(place / "more" / "below" / "data"), 3)
    assert command("doctor", "--clean", "--json").out == "[]\n"
    answer = command("doctor", "--below", place / "more")
    assert (answer.code, answer.err) == (2, "error: --below names folders for --clean; give both, or neither\n")
    answer = command("doctor", "--clean", "--below", place / "none")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"error: --below {place / 'none'} is not a folder; name one that exists\n"
    assert path.exists()
    assert f"removed {path} (3 bytes)\n" in command("doctor", "--clean", "--below", place / "more").out
    assert not path.exists()


def test_doctor_fails_when_something_required_is_missing(command, monkeypatch):
    def finding(ok, required):
        return doctor.Finding("libgarden", ok, "not found" if not ok else "1.0", "plant one", required)

    for ok, required, code in ((True, True, 0), (False, False, 0), (False, True, 1)):
        monkeypatch.setattr(doctor, "diagnose", lambda found=finding(ok, required): [found])
        answer = command("doctor")
        assert answer.code == code
        assert "libgarden" in answer.out
        answer = command("doctor", "--json")
        assert (answer.code, answer.err) == (code, "")
        assert json.loads(answer.out) == doctor.doctor_rows([finding(ok, required)])
