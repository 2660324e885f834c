"""Cache folders: a private one for temporary files takes the place of a home folder that is missing or not writable.

The tests put a file in a folder's place, because root may write to a folder of any mode.
"""

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from fastcifar.system import caches, machine, probes
from fastcifar.system.once import TOLD

VARIABLES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "TRITON_CACHE_DIR", "TRITON_HOME")


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """A home folder, an installation and a directory of temporary files, all empty, and no variable of caches."""
    for variable in (*VARIABLES, "NUMBA_CACHE_DIR", TOLD):
        monkeypatch.delenv(variable, raising=False)
    for name in ("home", "tmp", "fastcifar/kernels/cpu"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(machine, "PACKAGE", tmp_path / "fastcifar")
    monkeypatch.setattr(caches.os, "environ", os.environ.copy())  # what `choose` sets does not outlive the test
    return tmp_path


def no_home(monkeypatch):
    """Be a user of whom the system knows nothing, as with ``docker run --user``."""

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.delitem(caches.os.environ, "HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def read_only(folder: Path) -> None:
    if folder.is_dir():
        folder.rmdir()
    folder.touch()


def test_without_a_home_folder_there_is_still_a_cache(places, monkeypatch):
    no_home(monkeypatch)
    assert (caches.home(), caches.user_folder()) == (None, None)
    assert caches.own_folder().is_relative_to(places / "tmp")
    probes.store_cache("question", {"answer": 1})
    assert probes.load_cache("question") == {"answer": 1}
    assert list(Path.cwd().glob("~*")) == []


def test_without_any_folder_nothing_is_kept_and_nothing_raised(places, monkeypatch):
    no_home(monkeypatch)
    read_only(places / "tmp")
    probes.store_cache("question", {"answer": 1})
    assert probes.load_cache("question") == {}


def test_a_home_folder_is_used_where_it_can_be_written(places):
    assert caches.own_folder() == places / "home" / ".cache" / "fastcifar"
    read_only(places / "home")
    assert caches.own_folder().is_relative_to(places / "tmp")


def test_the_temporary_folder_is_private(places):
    folder = caches.temporary()
    assert folder is not None
    assert folder.stat().st_mode & 0o777 == 0o700
    assert caches.temporary() == folder
    folder.chmod(0o777)  # everybody could put a pickle into it
    assert caches.temporary() is None
    folder.rmdir()
    folder.symlink_to(places / "home")  # where another user wants us to write
    assert caches.temporary() is None


def test_a_temporary_folder_of_another_user_is_not_used(monkeypatch):
    folder = caches.temporary()
    assert folder is not None
    monkeypatch.setattr(os, "getuid", lambda: int(folder.name.rpartition("-")[2]))
    monkeypatch.setattr(Path, "lstat", lambda path: os.stat_result((0o40700, 0, 0, 0, 12345, *[0] * 5)))
    assert caches.temporary() is None


def test_the_libraries_get_folders_where_theirs_cannot_be_written(places):
    caches.choose()
    assert not {"MPLCONFIGDIR", "TRITON_CACHE_DIR"} & set(caches.os.environ)
    read_only(places / "home")
    caches.os.environ["TRITON_CACHE_DIR"] = "chosen by the user"
    caches.choose()
    assert Path(caches.os.environ["MPLCONFIGDIR"]).parent == caches.temporary()
    assert caches.os.environ["TRITON_CACHE_DIR"] == "chosen by the user"


def test_numba_s_folder_is_spoken_of_once_and_only_where_none_of_its_own_can_be_written(places, monkeypatch):
    said: list[str] = []
    caches.tell_of_numba(said.append)
    read_only(places / "fastcifar" / "kernels" / "cpu" / "__pycache__")
    caches.tell_of_numba(said.append)
    assert said == []
    read_only(places / "home")
    caches.tell_of_numba(said.append)
    caches.tell_of_numba(said.append)
    (text,) = said
    assert f"are kept in {caches.temporary()}" in text
    assert f"{places / 'home' / '.cache' / 'numba'}: Not a directory" in text
    assert text.endswith("set NUMBA_CACHE_DIR to a folder of yours")
    del caches.os.environ[TOLD]
    monkeypatch.setattr(caches, "temporary", lambda: None)
    caches.tell_of_numba(said.append)
    assert "kept nowhere" in said[1]
    assert TOLD in caches.os.environ  # for the children
