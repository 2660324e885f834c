"""Who trains what, where several processes share an output folder: a lease a run, which its holder keeps renewing.

A lease is a file in ``<out>/.leases``; its time of change says when it was last renewed. All times are those of the
file system, so that machines whose clocks differ agree.
"""

import fcntl
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastcifar.system.machine import process_started

EXPIRES = 60.0  # seconds without renewal; a holder on this machine that has died is known at once
RENEWALS = 6  # in that time


class Leases:
    """Those that this process holds in an output folder, renewed by a thread. A context manager: it ends them all."""

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
        self._renewer = threading.Thread(target=self._renew, name="fastcifar-leases", daemon=True)
        self._renewer.start()

    def take(self, names: Iterable[str]) -> list[str]:
        """Take the leases of those names that nobody holds; returns these, in their order."""
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
        """Give back leases that this process holds."""
        with self._guard:
            mine = self._held & set(names)
            self._held -= mine
            for name in mine:
                if self._is_mine(name):
                    self._file(name).unlink(missing_ok=True)

    def close(self) -> None:
        """End all leases and the thread."""
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
        """Who holds a lease, None where nobody does (any more)."""
        try:
            changed = self._file(name).stat().st_mtime
            holder: dict[str, object] = json.loads(self._file(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # there is none, or its holder died while writing it
            return None
        here = holder.get("host") == self._holder["host"]
        if here and process_started(int(str(holder.get("pid", 0)))) != holder.get("started"):
            return None  # the process has died, even if another one has its number now
        return None if now - changed > self._expires else holder

    def _is_mine(self, name: str) -> bool:
        try:
            return json.loads(self._file(name).read_text(encoding="utf-8"))["token"] == self._holder["token"]
        except (OSError, ValueError, KeyError):
            return False

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _now(self) -> float:
        probe = self._folder / f".{self._holder['token']}"
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
        return now

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with open(self._folder / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
