"""A directory or a file that appears whole or not at all: made beside its place, then renamed into it."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastcifar.errors import FastcifarError, UsageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the quota, the limit on a file's size


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into a FastcifarError that names what was being written."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise FastcifarError(
                f"disk full while writing {path} ({error.strerror}); free some space, or choose a DEST on another disk"
            ) from error
        raise FastcifarError(f"cannot write {path}: {error}") from error


@contextmanager
def neighbour(dest: Path) -> Iterator[Path]:
    """A new directory beside ``dest``, gone in the end unless it was renamed; so are parents made for nothing.

    Only the death of the process or the machine leaves it there, under a hidden name that ends in ".partial".
    """
    parents = [parent for parent in dest.parents if not parent.exists()]
    folder = dest.parent / f".{dest.name}.{secrets.token_hex(4)}.partial"
    try:
        with writing(folder):
            folder.mkdir(parents=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not dest.exists():
            for parent in parents:
                if parent.exists() and not any(parent.iterdir()):
                    parent.rmdir()


def put_in_place(folder: Path, dest: Path, overwrite: bool) -> None:
    """Have ``folder`` on the disk in full, then rename it to ``dest``.

    With ``overwrite``, what was at ``dest`` steps aside first, and comes back should the renaming fail; without, the
    renaming fails if there is something.
    """
    with writing(folder):
        for path in [*folder.rglob("*"), folder]:
            _sync(path)
    old = folder.with_suffix(".old")
    with writing(dest):
        try:
            if overwrite and dest.exists():
                dest.rename(old)
            folder.rename(dest)
        except BaseException:
            if old.exists() and not dest.exists():
                old.rename(dest)
            raise
        _sync(dest.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def whole(dest: Path) -> Iterator[Path]:
    """A path to write a file to, which then takes the place of ``dest``; after an error ``dest`` is as it was."""
    with neighbour(dest) as folder:
        file = folder / dest.name
        with writing(dest):
            yield file
            _sync(file)
            file.replace(dest)
            _sync(dest.parent)


def write_whole(dest: Path, content: bytes) -> None:
    """Write a file beside its place, have it on the disk, then rename it: a reader sees the old file or the new one.

    Unlike `whole` it makes no folder and says nothing of its own: raises OSError where the file cannot be written.
    """
    temporary = dest.parent / f".{dest.name}.tmp"
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(dest)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def require_writable(path: Path | None, suffix: str, what: str) -> None:
    """Raise UsageError unless a file of that suffix can be made at the path; None is no file."""
    if path is None:
        return
    if path.suffix.lower() != suffix:
        raise UsageError(f"{path}: {what}; call it {path.name}{suffix}, for example")
    if path.is_dir():
        raise UsageError(f"{path} is a directory; name a file, say {path / ('predicted' + suffix)}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; make it first: mkdir -p {path.parent}")
