"""Directories and files that appear whole or not at all: each is made beside its destination, then renamed."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.system import temporary

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # limits of the disk, the quota and the file size


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into a FastcifarError that names the path."""
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
    """Make a temporary directory beside ``dest``, and remove it at the end unless the caller renamed it.

    Missing parents of ``dest`` are made, and removed again if they stay empty. If the process is killed, the directory
    stays under a hidden name; what killed processes left beside ``dest`` is removed first.
    """
    parents = [parent for parent in dest.parents if not parent.exists()]
    temporary.sweep(dest.parent)

    def make() -> Path:
        folder = temporary.beside(dest)
        with writing(folder):
            folder.mkdir(parents=True)
        return folder

    folder, held = None, None
    try:
        folder, held = temporary.claimed(make)
        yield folder
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            held.end()
        if not dest.exists():
            for parent in parents:
                if parent.exists() and not any(parent.iterdir()):
                    parent.rmdir()


def put_in_place(folder: Path, dest: Path, overwrite: bool) -> None:
    """Flush ``folder`` to the disk, then rename it to ``dest``.

    overwrite: move the old ``dest`` aside first, and move it back if the renaming fails. Without it, an existing
    ``dest`` makes the renaming fail. Raises FastcifarError, also where another process puts its folder there meanwhile.
    """
    with writing(folder):
        for path in [*folder.rglob("*"), folder]:
            _sync(path)
    old, held = temporary.beside(dest, "old"), None
    with writing(dest):
        try:
            if overwrite and dest.exists():
                held = temporary.hold(dest)  # the lock goes with the folder to its new name
                if held is None:
                    raise meanwhile(dest)
                dest.rename(old)
            folder.rename(dest)
        except BaseException as error:
            if old.exists() and not dest.exists():
                old.rename(dest)
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise meanwhile(dest) from error
            raise
        finally:
            if held is not None:
                held.end()
            if dest.exists():
                shutil.rmtree(old, ignore_errors=True)
        _sync(dest.parent)


def meanwhile(dest: Path) -> FastcifarError:
    """Return the error for a destination that another process wrote after this one had looked at it."""
    return FastcifarError(
        f"another process wrote {dest} meanwhile, and it stays as it is; nothing of this command is kept: choose "
        "another place, or repeat the command"
    )


@contextmanager
def whole(dest: Path) -> Iterator[Path]:
    """Give a temporary path to write to; the file then replaces ``dest``. After an error ``dest`` is unchanged."""
    with neighbour(dest) as folder:
        file = folder / dest.name
        with writing(dest):
            yield file
            _sync(file)
            file.replace(dest)
            _sync(dest.parent)


def write_whole(dest: Path, content: bytes) -> None:
    """Write a temporary file, flush it to the disk, then rename it to ``dest``.

    A reader sees the old file or the new one. Unlike `whole`, this makes no folder, and an error stays an OSError.
    """
    temporary.sweep_once(dest.parent)

    def make() -> Path:
        path = temporary.beside(dest)
        path.touch(exist_ok=False)
        return path

    path, held = temporary.claimed(make)
    try:
        with open(path, "wb") as file:
            file.write(content)
            flush(file)
        path.replace(dest)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        held.end()


def flush(file: IO[bytes]) -> None:
    """Have what was written to an open file on the disk, whatever becomes of the process."""
    file.flush()
    os.fsync(file.fileno())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def require_writable(path: Path | None, suffix: str, what: str) -> None:
    """Raise UsageError unless a file with this suffix can be made at ``path``; None is accepted.

    what: the sentence in the message about a wrong suffix.
    """
    if path is None:
        return
    if path.suffix.lower() != suffix:
        raise UsageError(f"{path}: {what}; call it {path.name}{suffix}, for example")
    if path.is_dir():
        raise UsageError(f"{path} is a directory; name a file, say {path / ('predicted' + suffix)}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; make it first: mkdir -p {path.parent}")
