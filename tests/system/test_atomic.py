"""Files and directories that appear whole or not at all: what is there afterwards, whatever happened in between."""

import errno
import os
from pathlib import Path

import pytest

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.system import atomic
from fastcifar.system.atomic import FULL, neighbour, put_in_place, require_writable, whole, write_whole, writing
from fastcifar.system.temporary import beside, hold, sweep


def tree(folder: Path) -> dict[str, str]:
    """The files below a folder with what is in them; hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def filled(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "inner").mkdir()
    (folder / "a.txt").write_text(text)
    (folder / "inner" / "b.txt").write_text(text)
    return folder


FILLED = {"a.txt": "new", "inner/b.txt": "new"}


# errors


@pytest.mark.parametrize("number", FULL)
def test_a_full_disk_is_named_with_a_cure(number):
    with (
        pytest.raises(FastcifarError, match=r"disk full while writing made/it \(.+\); free some space"),
        writing(Path("made/it")),
    ):
        raise OSError(number, os.strerror(number))


def test_other_errors_are_those_of_the_system_with_the_path():
    with pytest.raises(FastcifarError, match=r"cannot write made/it: .*Permission denied"), writing(Path("made/it")):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def test_what_is_no_error_of_the_system_passes_through():
    with pytest.raises(KeyError), writing(Path("made/it")):
        raise KeyError("a bug")


# a directory beside another


def test_a_neighbour_is_new_hidden_and_gone_in_the_end(tmp_path):
    with neighbour(tmp_path / "it") as folder, neighbour(tmp_path / "it") as other:
        assert folder != other
        assert folder.parent == other.parent == tmp_path
        assert folder.name.startswith(".it.")
        assert folder.name.endswith(".partial")
        (folder / "half.txt").write_text("half")
        assert not (tmp_path / "it").exists()
    assert list(tmp_path.iterdir()) == []


def test_parents_made_for_nothing_are_gone_too_and_those_of_others_stay(tmp_path):
    def give_up(beside: tuple[str, ...] = ()):
        with neighbour(tmp_path / "one" / "two" / "it"):
            for name in beside:
                (tmp_path / "one" / name).write_text("")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give_up()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt):
        give_up(("somebody.txt",))
    assert [path.name for path in tmp_path.rglob("*")] == ["one", "somebody.txt"]


def test_a_neighbour_that_was_renamed_stays(tmp_path):
    with neighbour(tmp_path / "one" / "it") as folder:
        (folder / "a.txt").write_text("whole")
        folder.rename(tmp_path / "one" / "it")
    assert tree(tmp_path) == {"one/it/a.txt": "whole"}


def test_a_neighbour_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(FastcifarError, match=r"cannot write .*/file/\.it\..*\.partial"),
        neighbour(tmp_path / "file" / "it"),
    ):
        pytest.fail("it was made")


@pytest.mark.parametrize("make", [neighbour, whole])
def test_what_a_killed_process_left_goes_first(tmp_path, make):
    filled(beside(tmp_path / "other"), "half")
    with make(tmp_path / "it") as path:
        path.mkdir(exist_ok=True) if make is neighbour else path.write_text("")
        assert sweep(tmp_path) == []
    assert not (tmp_path / "it").is_dir()
    assert len(tree(tmp_path)) == (make is whole)


# a directory in its place


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_is_put_where_there_is_none(tmp_path, overwrite):
    put_in_place(filled(tmp_path / ".it.partial", "new"), tmp_path / "it", overwrite)
    assert tree(tmp_path / "it") == FILLED
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_a_directory_that_is_there_is_replaced_only_when_asked(tmp_path):
    filled(tmp_path / "it", "old")
    (tmp_path / "it" / "more.txt").write_text("old")
    folder = filled(tmp_path / ".it.partial", "new")
    with pytest.raises(FastcifarError, match=r"another process wrote .*/it meanwhile, and it stays as it is"):
        put_in_place(folder, tmp_path / "it", overwrite=False)
    assert tree(tmp_path / "it")["a.txt"] == "old"
    assert tree(folder) == FILLED
    put_in_place(folder, tmp_path / "it", overwrite=True)
    assert tree(tmp_path / "it") == FILLED  # nothing of the old one is left among it
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_what_was_there_comes_back_when_the_renaming_fails(tmp_path, monkeypatch, error):
    filled(tmp_path / "it", "old")
    folder = filled(tmp_path / ".it.partial", "new")
    rename = Path.rename

    def failing(self, target):
        if self == folder:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises((FastcifarError, KeyboardInterrupt)):
        put_in_place(folder, tmp_path / "it", overwrite=True)
    assert tree(tmp_path / "it") == {"a.txt": "old", "inner/b.txt": "old"}
    assert tree(folder) == FILLED


def test_two_that_replace_a_directory_at_once_do_not_meet(tmp_path, monkeypatch):
    """The second comes while the first has moved the old directory aside."""
    filled(tmp_path / "it", "old")
    first, second = (filled(tmp_path / f".it.{name}", name) for name in ("first", "second"))
    rename = Path.rename

    def meanwhile(self, target):
        made = rename(self, target)
        if self == tmp_path / "it":
            monkeypatch.setattr(Path, "rename", rename)
            assert sweep(tmp_path) == []  # a third one does not take the old directory for what a killed one left
            put_in_place(second, tmp_path / "it", overwrite=True)
        return made

    monkeypatch.setattr(Path, "rename", meanwhile)
    with pytest.raises(FastcifarError, match=r"another process wrote .*it meanwhile, and it stays as it is"):
        put_in_place(first, tmp_path / "it", overwrite=True)
    assert tree(tmp_path / "it") == {"a.txt": "second", "inner/b.txt": "second"}
    assert {path.name for path in tmp_path.iterdir()} == {"it", ".it.first"}


def test_a_directory_that_another_process_puts_there_stays(tmp_path):
    held = hold(filled(tmp_path / "it", "theirs"))
    with pytest.raises(FastcifarError, match=r"another process wrote .*it meanwhile"):
        put_in_place(filled(tmp_path / ".it.partial", "mine"), tmp_path / "it", overwrite=True)
    held.end()
    assert tree(tmp_path / "it")["a.txt"] == "theirs"


def test_everything_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    folder, order, fsync = filled(tmp_path / ".it.partial", "new"), [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: order.append(os.readlink(f"/proc/self/fd/{handle}")) or fsync(handle)
    )
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, target: order.append("renamed") or rename(self, target))
    put_in_place(folder, tmp_path / "it", overwrite=False)
    before, after = order[: order.index("renamed")], order[order.index("renamed") + 1 :]
    assert set(before) == {
        str(path) for path in (folder, folder / "a.txt", folder / "inner", folder / "inner" / "b.txt")
    }
    assert after == [str(tmp_path)]


# a file


def test_a_file_takes_the_place_of_what_was_there(tmp_path):
    dest = tmp_path / "made" / "a.txt"
    for text in ("first", "second"):
        with whole(dest) as path:
            assert (path.name, path.parent.parent) == ("a.txt", dest.parent)  # on the same disk, of the same name
            path.write_text(text)
            assert not dest.exists() or dest.read_text() == "first"
        assert tree(tmp_path) == {"made/a.txt": text}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("a bug"), KeyboardInterrupt()])
@pytest.mark.parametrize("before", [None, "old"])
def test_after_an_error_a_file_is_as_it_was(tmp_path, error, before):
    dest = tmp_path / "a.txt"
    if before is not None:
        dest.write_text(before)
    wanted = FastcifarError if isinstance(error, OSError) else type(error)

    def fail():
        with whole(dest) as path:
            path.write_text("half")
            raise error

    with pytest.raises(wanted):
        fail()
    assert tree(tmp_path) == ({} if before is None else {"a.txt": before})


def test_a_file_that_nobody_wrote_is_an_error(tmp_path):
    with pytest.raises(FastcifarError, match=r"cannot write .*/a\.txt: .*No such file"), whole(tmp_path / "a.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_bytes_are_written_in_place_of_what_was_there(tmp_path):
    dest = tmp_path / "a.bin"
    for content in (b"first", b"", b"third"):
        write_whole(dest, content)
        assert dest.read_bytes() == content
        assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "none" / "a.bin", b"")


def test_bytes_that_do_not_fit_leave_what_was_there(tmp_path, monkeypatch):
    dest = tmp_path / "a.bin"
    write_whole(dest, b"first")

    def full(handle):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        write_whole(dest, b"second")
    assert tree(tmp_path) == {"a.bin": "first"}


def test_two_that_write_a_file_at_once_do_not_meet(tmp_path, monkeypatch):
    dest, flush = tmp_path / "a.bin", atomic.flush

    def meanwhile(file):
        monkeypatch.setattr(atomic, "flush", flush)
        write_whole(dest, b"other")
        flush(file)

    monkeypatch.setattr(atomic, "flush", meanwhile)
    write_whole(dest, b"mine")
    assert tree(tmp_path) == {"a.bin": "mine"}


# before anything is written


def test_a_path_that_can_be_written_is_no_error(tmp_path):
    require_writable(None, ".csv", "it is a CSV file")
    require_writable(tmp_path / "a.csv", ".csv", "it is a CSV file")
    require_writable(tmp_path / "A.CSV", ".csv", "it is a CSV file")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_is_refused_with_a_cure(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for path, message in (
        (tmp_path / "a.txt", r"a\.txt: it is a CSV file; call it a\.txt\.csv, for example"),
        (tmp_path / "a", r"a: it is a CSV file; call it a\.csv, for example"),
        (tmp_path / "folder.csv", r"folder\.csv is a directory; name a file, say .*folder\.csv/predicted\.csv"),
        (tmp_path / "no" / "a.csv", r"there is no folder .*/no; make it first: mkdir -p .*/no"),
    ):
        with pytest.raises(UsageError, match=message):
            require_writable(path, ".csv", "it is a CSV file")
