"""The commit of a copy that travelled without its .git."""

import subprocess
from pathlib import Path

import pytest

from fastcifar.errors import UsageError
from fastcifar.system import machine

HEAD = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("told", "commit"),
    [(HEAD, (HEAD, False)), (f"{HEAD}+", (HEAD, True)), ("0123abc", ("0123abc", False)), ("", (None, None))],
)
def test_a_copy_without_git_is_told_its_commit(told, commit, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CHECKOUT", tmp_path)
    monkeypatch.setenv("FASTCIFAR_COMMIT", told)
    assert machine.commit() == commit


@pytest.mark.parametrize("told", ["main", "012345", f"{HEAD}++", f"+{HEAD}", f"{HEAD} ", HEAD.upper(), HEAD * 2])
def test_what_is_no_commit_is_refused(told, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CHECKOUT", tmp_path)
    monkeypatch.setenv("FASTCIFAR_COMMIT", told)
    with pytest.raises(UsageError, match=r"FASTCIFAR_COMMIT .* is no commit: 7 to 64 hexadecimal digits"):
        machine.commit()


def test_a_checkout_s_own_git_is_never_overruled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CHECKOUT", tmp_path)
    monkeypatch.setenv("FASTCIFAR_COMMIT", HEAD)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert machine.commit() == (None, None)  # it has no commit yet
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(tmp_path), *identity, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    head, dirty = machine.commit()
    assert head not in (None, HEAD)
    assert dirty is False


def test_a_damaged_git_does_not_let_the_variable_speak_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CHECKOUT", tmp_path)
    monkeypatch.setenv("FASTCIFAR_COMMIT", HEAD)
    (tmp_path / ".git").write_text("gitdir: /nowhere")
    assert machine.commit() == (None, None)


def test_the_last_cache_has_a_size():
    assert 1 << 18 <= machine.last_cache() <= 1 << 34
