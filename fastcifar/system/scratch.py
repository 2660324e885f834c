"""Temporary folders, and the names of what multiprocessing makes: both can be told from what other programs make."""

import multiprocessing
import multiprocessing.util
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastcifar.system import temporary
from fastcifar.system.temporary import Hold

LONGEST = 60
"""The most bytes of the path of the directory of temporary files, of which the path of a socket has 108 (unix(7))."""
_marked = 0  # the process that `mark_processes` marked; a fork has the variables of another process


class Scratch:
    """A private folder in the directory of temporary files (TMPDIR), which is removed with this object.

    What killed processes left there is removed first. name: the path. A context manager that gives the path.
    """

    def __init__(self) -> None:
        folder = Path(tempfile.gettempdir())
        temporary.sweep_once(folder)
        path, held = temporary.claimed(lambda: _made(temporary.own(folder)))
        self.name = str(path)
        self._end = weakref.finalize(self, _removed, path, held, os.getpid())

    def cleanup(self) -> None:
        """Remove the folder. Further calls do nothing."""
        self._end()

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, *_: object) -> None:
        self.cleanup()


def mark_processes() -> None:
    """Name the semaphores and sockets that multiprocessing makes for this process, so that they can be removed.

    Python removes them, except where all processes of a program are killed at once. `temporary.sweep` then does. The
    two names are private settings of multiprocessing, which has no public ones. Other names are as good for it.
    """
    global _marked
    if _marked == os.getpid() or not os.access(temporary.SHARED, os.W_OK):
        return
    _marked = os.getpid()
    temporary.sweep(temporary.SHARED)
    config: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    path, held = temporary.claimed(lambda: _touched(temporary.own(temporary.SHARED, ".owner")))
    config["semprefix"] = f"/{path.stem}"
    # multiprocessing removes its semaphores with priority 0, its folder of sockets with -100
    multiprocessing.util.Finalize(None, _removed, (path, held, _marked), exitpriority=-200)
    if len(tempfile.gettempdir().encode()) <= LONGEST and config.get("tempdir") is None:
        sockets = Scratch()
        config["tempdir"] = sockets.name
        multiprocessing.util.Finalize(None, sockets.cleanup, exitpriority=-100)


def _made(path: Path) -> Path:
    path.mkdir(mode=0o700)
    return path


def _touched(path: Path) -> Path:
    path.touch(mode=0o600, exist_ok=False)
    return path


def _removed(path: Path, held: Hold, process: int) -> None:
    """Remove what a process made; a fork of the process removes nothing."""
    if process == os.getpid():
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    held.end()
