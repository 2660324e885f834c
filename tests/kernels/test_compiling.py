"""numba's cache: kernels are compiled where no folder can be written, where a disk is full and where files are damaged.

A small module in a folder of the test is compiled. A file in a folder's place stands for a folder that cannot be
written, because root may write to a folder of any mode.
"""

import errno
import importlib.util
import os
import tempfile

import pytest
from fastcifar.kernels.cpu import compiling
from numba.core import config
from numba.core.caching import IndexDataCacheFile

from fastcifar.system import caches, machine
from fastcifar.system.once import TOLD

SOURCE = """
from fastcifar.kernels.cpu import compiling

@compiling.kept(nogil=True)
def double(x):
    return x + x
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An installation whose folder __pycache__ cannot be written, an unwritable home, and a directory TMPDIR."""
    for folder in ("tmp", "fastcifar/kernels/cpu"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("file", "fastcifar/kernels/cpu/__pycache__"):
        (tmp_path / file).touch()
    (tmp_path / "fastcifar/kernels/cpu/small.py").write_text(SOURCE)
    monkeypatch.setattr(caches.os, "environ", os.environ | {"XDG_CACHE_HOME": str(tmp_path / "file")})
    monkeypatch.setattr(config, "CACHE_DIR", "")
    caches.os.environ.pop("NUMBA_CACHE_DIR", None)
    caches.os.environ.pop(TOLD, None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(machine, "PACKAGE", tmp_path / "fastcifar")
    return tmp_path


def loaded(place):
    """Import the module anew and return its function, as a new process would have it."""
    spec = importlib.util.spec_from_file_location("small", place / "fastcifar/kernels/cpu/small.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.double


def test_without_a_writable_folder_kernels_are_kept_in_a_temporary_one(place, capsys):
    double = loaded(place)
    assert capsys.readouterr().err == ""  # nothing is compiled yet
    assert double(2) == 4
    assert "compiled kernels are kept in" in capsys.readouterr().err
    again = loaded(place)
    assert again(3) == 6
    assert sum(again.stats.cache_hits.values()) == 1
    assert capsys.readouterr().err == ""  # said once


def test_without_any_folder_kernels_are_compiled_and_kept_nowhere(place, capsys, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(place / "file"))
    double = loaded(place)
    assert double(2) == 4
    assert double(2.5) == 5.0
    assert capsys.readouterr().err.count("kept nowhere") == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_cache_folder_is_named_with_the_variable_to_set(number, place, capsys, monkeypatch):
    def full(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(config, "CACHE_DIR", str(place / "chosen"))
    monkeypatch.setattr(IndexDataCacheFile, "_save_data", full)
    double = loaded(place)
    assert double(2) == 4
    assert double(2.5) == 5.0
    said = capsys.readouterr().err
    assert said.count("compiled kernels cannot be kept in") == 1
    assert str(place / "chosen") in said
    assert os.strerror(number) in said
    assert "NUMBA_CACHE_DIR" in said


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"noise", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f."])
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_cache_is_made_again(suffix, content, place, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", str(place / "chosen"))
    assert loaded(place)(2) == 4
    (file,) = (place / "chosen").rglob(f"*.{suffix}")
    file.write_bytes(content)
    assert loaded(place)(2) == 4
    whole = loaded(place)
    assert whole(2) == 4
    assert sum(whole.stats.cache_hits.values()) == 1


def test_the_kernels_use_this_cache():
    """A kernel with numba's own cache would end the program where no folder can be written."""
    from fastcifar.kernels.cpu import dice, pixels

    compiled = [value for module in (dice, pixels) for value in vars(module).values() if hasattr(value, "py_func")]
    numbas = [one for one in compiled if type(one._cache).__module__ != compiling.__name__]
    assert all(type(one._cache).__name__ == "NullCache" for one in numbas)
    assert len(compiled) - len(numbas) > 10
