"""The lock of a run's directory: one process trains a run at a time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from fastcifar.errors import FastcifarError
from fastcifar.runs.files import RunFiles
from fastcifar.system.locks import fcntl
from fastcifar.system.temporary import sweep


class Lockable(RunFiles):
    """The files of a run, and the file ``lock``, which a process locks while it trains the run."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the directory, and lock it against training by other processes.

        Raises FastcifarError where another process holds the lock.
        """
        if not self.path.exists():
            sweep(self.path.parent)  # moves back what a killed process had moved aside
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "w") as lock:
            for _ in range(5):  # `busy` holds the lock for microseconds, a training process for long
                if _flock(lock, fcntl.LOCK_EX):
                    break
                time.sleep(0.02)
            else:
                raise FastcifarError(f"another process is training {self.path}; wait for it or stop it")
            yield

    def busy(self) -> bool:
        """Return whether a process, including this one, trains in the directory. This writes no files."""
        try:
            with open(self.path / "lock") as lock:
                return not _flock(lock, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False


def _flock(file: TextIO, kind: int) -> bool:
    """Try to lock an open file until it is closed. kind: LOCK_EX or LOCK_SH. Returns whether this succeeded."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
