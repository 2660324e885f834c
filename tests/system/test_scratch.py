"""Temporary folders and the semaphores of multiprocessing: gone with their process, or told by their names."""

import gc
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support import ROOT

from fastcifar.system import temporary
from fastcifar.system.scratch import Scratch
from fastcifar.system.temporary import NAME, own, sweep


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    temporary.sweep_once.cache_clear()
    return tmp_path


def test_a_scratch_is_private_and_goes_with_its_object(folder: Path) -> None:
    with Scratch() as name:
        assert Path(name).parent == folder
        assert NAME.fullmatch(Path(name).name)
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o700
        Path(name, "file").write_text("")
        assert sweep(folder) == []
    assert list(folder.iterdir()) == []
    scratch = Scratch()
    assert Path(scratch.name).is_dir()
    del scratch
    gc.collect()
    assert list(folder.iterdir()) == []


def test_a_fork_of_the_process_removes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch, process = Scratch(), os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    scratch.cleanup()
    assert Path(scratch.name).is_dir()
    assert list(folder.iterdir()) == [Path(scratch.name)]


def test_what_killed_processes_left_goes_first(folder: Path) -> None:
    left = own(folder)
    left.mkdir()
    with Scratch():
        assert not left.exists()


MARKED = """
import multiprocessing, os, sys, time
from pathlib import Path
from fastcifar.system import scratch, temporary
scratch.mark_processes()
scratch.mark_processes()
semaphore = multiprocessing.get_context("spawn").Semaphore(1)
temporary_folder = multiprocessing.util.get_temp_dir()
print(f"sem.{semaphore._semlock.name.lstrip('/')}", flush=True)
print(temporary_folder, flush=True)
sys.stdin.read(1)
"""


@pytest.mark.skipif(not os.access(temporary.SHARED, os.W_OK), reason="there is no shared memory to write to")
@pytest.mark.parametrize("killed", [False, True])
def test_semaphores_and_sockets_are_named_and_removed(folder: Path, killed: bool) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", MARKED], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": "/tmp"}, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    mine, sockets = [process.stdout.readline().strip()], Path(process.stdout.readline().strip())
    try:
        assert (temporary.SHARED / mine[0]).exists()
        assert NAME.fullmatch(sockets.name)
        assert not {left.path.name for left in temporary.left_in([temporary.SHARED, sockets.parent])} & {
            *mine,
            sockets.name,
        }
    finally:
        if killed:
            os.killpg(process.pid, signal.SIGKILL)  # with Python's own tracker, which would remove the semaphores
        process.communicate("x")
    if killed:
        assert {left.path.name for left in sweep(temporary.SHARED)} >= {*mine}
        assert sockets in [left.path for left in sweep(sockets.parent)]
    assert not any((temporary.SHARED / name).exists() for name in mine)
    assert not sockets.exists()
