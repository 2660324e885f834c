"""The names of temporary files and folders, who still uses them, and the removal of what killed processes left.

Every temporary name has a tag: 4 hexadecimal digits for the machine, 4 for its boot, and 8 random ones. The process
that makes a file or folder keeps a lock on it (flock), which the kernel releases when the process ends in whatever way.
So a thing whose lock is free, and which was made on this machine, belongs to nobody any more. Where the file system has
no locks, nothing is removed.
"""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastcifar.system.machine import read

SHARED = Path("/dev/shm")
"""Linux's folder of shared memory, in which named semaphores are files called ``sem.NAME``."""
NAME = re.compile(
    r"\.(?P<dest>.+)\.(?P<beside>[0-9a-f]{16})\.(?P<kind>partial|old)"
    r"|(?P<semaphore>sem\.)?fastcifar-(?P<own>[0-9a-f]{16})(?P<suffix>\.owner|-.+)?",
    re.DOTALL,
)


def new_tag() -> str:
    """Return a new tag, 16 hexadecimal digits."""
    return "".join(_here()) + secrets.token_hex(4)


@cache
def _here() -> tuple[str, str]:
    """Return the 4 hexadecimal digits of this machine, and those of its boot."""
    facts = (os.uname().nodename + read("/etc/machine-id"), read("/proc/sys/kernel/random/boot_id"))
    machine, boot = (hashlib.sha256(fact.encode()).hexdigest()[:4] for fact in facts)
    return machine, boot


def beside(dest: Path, kind: str = "partial") -> Path:
    """Return a new hidden name beside ``dest``. kind: "partial" for what is being made, "old" for what it replaces."""
    return dest.parent / f".{dest.name}.{new_tag()}.{kind}"


def own(folder: Path, suffix: str = "") -> Path:
    """Return a new name in a folder that belongs to all programs, such as the directory of temporary files."""
    return folder / f"fastcifar-{new_tag()}{suffix}"


class Hold:
    """The lock on a file or folder, until `end` or the end of the process."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def end(self) -> None:
        """End the lock. Further calls do nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def hold(path: Path) -> Hold | None:
    """Lock a file or folder that this process made. None: another process is removing it, or has removed it.

    On a file system without locks, the Hold holds nothing.
    """
    try:
        return _lock(path)
    except (BlockingIOError, FileNotFoundError):
        return None
    except OSError:
        return Hold(None)


def claimed(make: Callable[[], Path]) -> tuple[Path, Hold]:
    """Call ``make`` until what it makes is locked before another process, which found it without a lock, removes it."""
    while True:
        path = make()
        if held := hold(path):
            return path, held


def _lock(path: Path) -> Hold:
    """Lock a file or folder. Raises BlockingIOError where it is locked, FileNotFoundError where it was removed."""
    from fastcifar.system.locks import fcntl  # here, as Windows lacks it and says so elsewhere

    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            raise FileNotFoundError(path)
    except BaseException:
        os.close(descriptor)
        raise
    return Hold(descriptor)


@dataclass(frozen=True)
class Left:
    """A file or folder that a process left that is gone.

    size: of its files, in bytes. dest: the path whose content it is and which is missing now; it is moved back there.
    """

    path: Path
    size: int
    dest: Path | None = None


def left_in(folders: Iterable[Path]) -> list[Left]:
    """Return what processes that are gone left in folders, not deeper. A folder that cannot be read has nothing."""
    return [found for folder in dict.fromkeys(folders) for found in _each(folder, lambda left: None)]


def sweep(folder: Path) -> list[Left]:
    """Remove what processes that are gone left in a folder, and return it. What cannot be removed stays."""
    return list(_each(folder, _remove))


@cache
def sweep_once(folder: Path) -> None:
    """Sweep a folder the first time that this process calls for it."""
    sweep(folder)


def _each(folder: Path, do: Callable[[Left], None]) -> Iterator[Left]:
    """Call ``do`` with each thing that was left in a folder, while it is locked; yield it where no error came."""
    try:
        names = sorted(os.listdir(folder), reverse=True)  # semaphores before the file of their owner
    except OSError:
        return
    for name in names:
        if match := NAME.fullmatch(name):
            with suppress(OSError):
                locked = _ownerless(folder / name, match)
                try:
                    left = Left(folder / name, _size(folder / name), _lost(folder, match))
                    do(left)
                finally:
                    locked.end()
                yield left


def _ownerless(path: Path, match: re.Match[str]) -> Hold:
    """Lock a thing, or the file of its owner. Raises OSError where it must stay."""
    machine, boot = _here()
    tag = match["beside"] or match["own"]
    if tag[4:8] != boot and tag[:4] != machine:
        raise PermissionError(f"{path} was made on another machine")
    if path.lstat().st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to another user")
    if match["semaphore"] is None:
        return _lock(path)
    try:
        return _lock(path.with_name(f"fastcifar-{tag}.owner"))
    except FileNotFoundError:
        return Hold(None)


def _lost(folder: Path, match: re.Match[str]) -> Path | None:
    """Return the path that lacks its content, because the process was killed while it replaced the content."""
    dest = folder / match["dest"] if match["kind"] == "old" else None
    return None if dest is None or os.path.lexists(dest) else dest


def _remove(left: Left) -> None:
    if left.dest is not None:
        left.path.rename(left.dest)
    elif left.path.is_dir():
        shutil.rmtree(left.path)
    else:
        left.path.unlink()


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    files = [path] if not path.is_dir() else [Path(root, name) for root, _, names in os.walk(path) for name in names]
    return sum(file.lstat().st_size for file in files)
