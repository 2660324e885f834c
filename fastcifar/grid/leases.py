"""Leases on runs, for processes that share an output folder. Only the holder of a run's lease trains the run.

A lease is a file in ``<out>/.leases``; its modification time is the time of its last renewal. All times come from the
file system, so that machines with different clocks agree.
"""

import json
import os
import secrets
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypedDict

from fastcifar.system.locks import fcntl
from fastcifar.system.machine import process_started
from fastcifar.system.schema import Count, Invalid, parse

EXPIRES = 60.0  # seconds without renewal; the death of a holder on this machine is detected at once
LOCK = ".lock"
RENEWALS = 6  # renewals within EXPIRES seconds


class Holder(TypedDict):
    """The process that holds a lease, in the lease's file."""

    host: str
    pid: Count
    started: str | None
    token: str


class Leases:
    """The leases that this process holds in an output folder. A thread renews them.

    A context manager that ends all leases. expires: seconds without renewal after which a lease is free.
    """

    def __init__(self, out: Path, expires: float = EXPIRES) -> None:
        self._folder, self._expires = out / ".leases", expires
        pid = os.getpid()
        self._holder = {
            "host": socket.gethostname(),
            "pid": pid,
            "started": process_started(pid),
            "token": secrets.token_hex(8),
        }
        self._held: set[str] = set()
        self._guard, self._over = threading.Lock(), threading.Event()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._remove_ended()
        self._renewer = threading.Thread(target=self._renew, name="fastcifar-leases", daemon=True)
        self._renewer.start()

    def take(self, names: Iterable[str]) -> list[str]:
        """Take the leases that nobody holds, and return their names in the given order."""
        taken = []
        with self._alone():
            now = self._now()
            for name in names:
                if self._holder_of(name, now) is None:
                    self._file(name).write_text(json.dumps(self._holder), encoding="utf-8")
                    taken.append(name)
        with self._guard:
            self._held.update(taken)
        return taken

    def end(self, names: Iterable[str]) -> None:
        """End the leases of these names that this process holds."""
        with self._guard:
            mine = self._held & set(names)
            self._held -= mine
            for name in mine:
                if self._is_mine(name):
                    self._file(name).unlink(missing_ok=True)

    def close(self) -> None:
        """End the renewing thread, then all leases."""
        self._over.set()
        self._renewer.join()
        self.end(list(self._held))

    def __enter__(self) -> "Leases":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _renew(self) -> None:
        while not self._over.wait(self._expires / RENEWALS):
            with self._guard:
                for name in self._held:
                    if self._is_mine(name):
                        with suppress(OSError):
                            os.utime(self._file(name))

    def _holder_of(self, name: str, now: float) -> dict[str, object] | None:
        """Return the holder of a lease, or None where nobody holds it. now: present time, as `_now` returns it."""
        try:
            changed = self._file(name).stat().st_mtime
            holder: dict[str, Any] = parse(self._file(name).read_bytes(), Holder)
        except (OSError, Invalid):  # no lease, or its holder died while it wrote the file
            return None
        here = holder["host"] == self._holder["host"]
        if here and process_started(holder["pid"]) != holder["started"]:
            return None  # the holder has died; another process may have its id now
        return None if now - changed > self._expires else holder

    def _is_mine(self, name: str) -> bool:
        try:
            return bool(parse(self._file(name).read_bytes(), Holder)["token"] == self._holder["token"])
        except (OSError, Invalid):
            return False

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _remove_ended(self) -> None:
        """Remove the leases that nobody holds, as those of killed processes."""
        with self._alone():
            now = self._now()
            for file in self._folder.glob("*.json"):
                if self._holder_of(file.stem, now) is None:
                    file.unlink(missing_ok=True)

    def _now(self) -> float:
        """Return the present time of the file system, in seconds. Only one process at a time may call this."""
        os.utime(self._folder / LOCK)
        return (self._folder / LOCK).stat().st_mtime

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with open(self._folder / LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
