"""Temporary names: what a killed process left is found and removed; what is alive, or another's, stays."""

import ast
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from fastcifar.system import locks, temporary
from fastcifar.system.temporary import Hold, Left, beside, claimed, hold, left_in, new_tag, own, sweep

OTHER = "ffff"  # of the digits of a machine or a boot; where they are this one's by chance, the test says so


def made(path: Path, content: str = "content") -> Path:
    """Make a folder with a file in it, as a process would that was killed before it locked anything."""
    path.mkdir()
    (path / "file").write_text(content)
    return path


def tagged(machine: str = "", boot: str = "") -> str:
    tag = new_tag()
    return (machine or tag[:4]) + (boot or tag[4:8]) + tag[8:]


def test_a_tag_is_new_each_time_and_begins_with_the_machine_and_its_boot() -> None:
    tags = {new_tag() for _ in range(20)}
    assert len(tags) == 20
    assert len({tag[:8] for tag in tags}) == 1
    assert temporary.NAME.fullmatch(beside(Path("a/.b\nc")).name)
    assert temporary.NAME.fullmatch(own(Path("a"), ".owner").name)


def test_what_is_held_stays_and_what_nobody_holds_goes(tmp_path: Path) -> None:
    folder, file = made(beside(tmp_path / "data")), own(tmp_path)
    file.write_text("1234")
    holds = [hold(folder), hold(file)]
    assert left_in([tmp_path]) == sweep(tmp_path) == []
    for held in holds:
        assert held is not None
        held.end()
        held.end()
    found = {Left(folder, 7), Left(file, 4)}
    assert set(left_in([tmp_path, tmp_path, tmp_path / "none"])) == found
    assert set(sweep(tmp_path)) == found
    assert list(tmp_path.iterdir()) == []


def test_what_fastcifar_did_not_make_here_stays(tmp_path: Path) -> None:
    assert OTHER not in (new_tag()[:4], new_tag()[4:8])
    strange = [
        *(".data.partial", ".data.1a2b3c4d.partial", ".data.tmp", "data.partial", f".data.{tagged()}.new"),
        *("fastcifar-cache-0", "fastcifar-gpu-a5ek2ac4", f"my-fastcifar-{tagged()}", f"fastcifar-{tagged()[:-1]}"),
        *("sem.mp-abcdefgh", "psm_12345678", "torch_12_34_0", f"semfastcifar-{tagged()}-x"),
        *(f".data.{tagged(OTHER, OTHER)}.partial", f"fastcifar-{tagged(OTHER, OTHER)}"),
    ]
    for name in strange:
        made(tmp_path / name)
    (tmp_path / "precious").mkdir()
    link = own(tmp_path)
    link.symlink_to(tmp_path / "precious")
    assert sweep(tmp_path) == []
    assert {path.name for path in tmp_path.iterdir()} == {*strange, "precious", link.name}


@pytest.mark.parametrize(("machine", "boot"), [(OTHER, ""), ("", OTHER)])
def test_another_boot_or_another_container_of_this_machine_is_this_machine(
    tmp_path: Path, machine: str, boot: str
) -> None:
    made(tmp_path / f".data.{tagged(machine, boot)}.partial")
    assert len(sweep(tmp_path)) == 1


def test_what_belongs_to_another_user_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(own(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert left_in([tmp_path]) == []


def test_a_directory_that_was_being_replaced_comes_back_and_one_that_was_replaced_goes(tmp_path: Path) -> None:
    lost, replaced = (made(beside(tmp_path / name, "old"), name) for name in ("lost", "replaced"))
    made(tmp_path / "replaced", "new")
    assert set(sweep(tmp_path)) == {Left(lost, 4, tmp_path / "lost"), Left(replaced, 8)}
    assert {path.name: (path / "file").read_text() for path in tmp_path.iterdir()} == {
        "lost": "lost",
        "replaced": "new",
    }


def test_semaphores_go_with_the_file_of_their_owner(tmp_path: Path) -> None:
    owners = [own(tmp_path, ".owner") for _ in range(2)]
    for owner in owners:
        owner.touch()
        (tmp_path / f"sem.{owner.stem}-abcdefgh").touch()
    orphan = tmp_path / f"sem.fastcifar-{tagged()}-abcdefgh"
    orphan.touch()
    held = hold(owners[0])
    assert {left.path for left in sweep(tmp_path)} == {owners[1], tmp_path / f"sem.{owners[1].stem}-abcdefgh", orphan}
    assert len(list(tmp_path.iterdir())) == 2
    assert held is not None
    held.end()
    assert len(sweep(tmp_path)) == 2


def test_what_is_being_removed_is_made_again(tmp_path: Path) -> None:
    """Another process may find a folder between its making and its lock."""
    tried: list[Path] = []
    remover: list[Hold | None] = []

    def make() -> Path:
        tried.append(made(own(tmp_path)))
        if len(tried) == 1:
            assert len(sweep(tmp_path)) == 1  # it has removed it
        if len(tried) == 2:
            remover.append(hold(tried[-1]))  # it has locked it, and will remove it
        return tried[-1]

    path, held = claimed(make)
    assert path == tried[2]
    assert hold(path) is None
    held.end()
    assert remover[0] is not None
    remover[0].end()


def test_without_locks_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(locks.fcntl, "flock", refused)
    path, held = claimed(lambda: made(own(tmp_path)))
    held.end()
    assert sweep(tmp_path) == []
    assert path.exists()


KILLED = """
import sys, time
from pathlib import Path
from fastcifar.system.atomic import neighbour
with neighbour(Path(sys.argv[1], "data")) as folder:
    (folder / "half").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_living_process_keeps_its_folder_and_a_killed_one_does_not(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        try:
            assert process.stdout.readline() == b"ready\n"
            assert sweep(tmp_path) == []
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert [(left.size, left.dest) for left in sweep(tmp_path)] == [(4, None)]
    assert list(tmp_path.iterdir()) == []


def test_temporary_names_come_from_one_place() -> None:
    """Files without a name (TemporaryFile) are the system's to remove."""
    allowed = {"fastcifar/system/scratch.py", "fastcifar/system/caches.py", "fastcifar/system/doctor/leftovers.py"}
    named = {"TemporaryDirectory", "NamedTemporaryFile", "mkdtemp", "mkstemp", "mktemp", "gettempdir"}
    for path in (path for top in ("fastcifar", "pipelines", "kernels", "bench") for path in (ROOT / top).rglob("*.py")):
        if path.relative_to(ROOT).as_posix() in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else set()
            names |= {node.attr} if isinstance(node, ast.Attribute) else set()
            assert not names & named, f"{path}:{getattr(node, 'lineno', 0)}: take system.scratch.Scratch"
