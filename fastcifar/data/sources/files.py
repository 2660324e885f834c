"""The files of a folder, and the interface and checks that folders share with archives.

No file is extracted to disk, so no archive can write outside its target. Names that lead outside are refused anyway, as
are links, devices and duplicates: an archive with such a name cannot be trusted.
"""

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from fastcifar.errors import FastcifarError
from fastcifar.show.progress import track
from fastcifar.show.text import printable

BLOCK = 1 << 20  # bytes read at a time
JUNK = {"__MACOSX", "Thumbs.db", "desktop.ini"}  # made by desktop programs; skipped like hidden files


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn any error that a library raises for damaged bytes into a FastcifarError. what: the name of the file."""
    try:
        yield
    except FastcifarError:
        raise
    except Exception as error:  # damaged bytes can raise anything: zlib.error, struct.error, EOFError, IndexError...
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
            raise FastcifarError(
                f"cannot read {what}: {str(error) or 'out of memory'}"
            ) from error  # its content is not the cause
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FastcifarError(
            f"cannot read {what}: {detail}; it is damaged or incomplete: fetch or copy it again"
        ) from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with reading(str(path)), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256()
        for block in track(iter(lambda: file.read(BLOCK), b""), f"hashing {path.name}", total=size, size=len):
            digest.update(block)
    return digest.hexdigest()


class Files(ABC):
    """The regular files of a folder or archive, without hidden files.

    name: the name of the folder or archive, for messages. names: safe, unique relative names with "/" between parts, in
    the order of ``stream``. empty: the relative names of folders without a file at any depth, sorted.
    """

    name: str
    names: tuple[str, ...]
    empty: tuple[str, ...] = ()

    @abstractmethod
    def stream(self, wanted: Collection[str], limit: int) -> Iterator[tuple[str, bytes]]:
        """Yield (name, content) of each wanted file, in the archive's order.

        Raises FastcifarError for a file of more than ``limit`` bytes, or one that cannot be read.
        """

    @abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """Return one file as a seekable stream, for an archive inside the archive."""

    @abstractmethod
    def sha256(self) -> str:
        """Return the SHA-256 of the archive file; for a folder, of its sorted names with their sizes and contents."""

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Close the file."""

    @property
    def title(self) -> str:
        """The last part of the name; the manifest uses it in the name of the source."""
        return printable(Path(self.name).resolve().name)

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of one file. Raises FastcifarError for more than ``limit`` bytes."""
        ((_, content),) = self.stream({name}, limit)
        return content

    def _check_size(self, name: str, size: int, limit: int) -> None:
        if size > limit:
            raise FastcifarError(f"{name!r} in {self.name} has {size:,} bytes; at most {limit:,} are expected of it")


class Listing:
    """The names of one folder or archive; a name that does not belong there is refused."""

    def __init__(self, archive: str) -> None:
        self.archive = archive
        self.names: dict[str, str] = {}  # {safe name: stored name}
        self._folders: set[str] = set()

    def add(self, stored: str, regular: bool = True) -> None:
        """Add the stored name of a file, or skip a hidden file.

        regular: whether it is a regular file. Raises FastcifarError for a link or device, a path that leads outside,
        or a duplicate.
        """
        parts = _parts(stored)
        if ".." in parts or stored.startswith("/") or re.match(r"[A-Za-z]:|.*[\\\0]", stored, re.DOTALL):
            raise FastcifarError(f"{self.archive} holds {stored!r}, a path that leads outside it; do not trust it")
        if _hidden(parts):
            return
        if not regular:
            raise FastcifarError(
                f"{self.archive} holds {stored!r}, a link or device; only plain files are expected in it"
            )
        name = "/".join(parts)
        if name in self.names:
            raise FastcifarError(f"{self.archive} holds {name!r} twice; keep only one of the two")
        self.names[name] = stored

    def add_folder(self, stored: str) -> None:
        """Add the stored name of a folder, or skip a hidden one. No file is read or written by this name."""
        if (parts := _parts(stored)) and not _hidden(parts):
            self._folders.add("/".join(parts))

    @property
    def empty(self) -> tuple[str, ...]:
        """The names of the folders that no file is in, at any depth, sorted."""
        holding = {name.rpartition("/")[0] for name in self.names}
        full = {str(above) for name in holding for above in (PurePosixPath(name), *PurePosixPath(name).parents)}
        return tuple(sorted(self._folders - full))


def _parts(stored: str) -> list[str]:
    return [part for part in stored.split("/") if part not in ("", ".")]


def _hidden(parts: list[str]) -> bool:
    return any(part.startswith(".") or part in JUNK for part in parts)


def _refuse(error: OSError) -> None:
    """Raise FastcifarError for a folder that cannot be listed, whose files would otherwise be missing."""
    raise FastcifarError(f"cannot read the folder {error.filename}: {error.strerror}") from error


class Folder(Files):
    """A directory tree. Links are followed, because users often link datasets into their folders."""

    def __init__(self, path: Path) -> None:
        self.name, self.path = str(path), path
        listing, visited = Listing(self.name), set()
        for folder, folders, files in os.walk(path, onerror=_refuse, followlinks=True):
            real = os.path.realpath(folder)
            if real in visited:
                raise FastcifarError(f"{folder} is reached twice through a link; remove the link")
            visited.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in JUNK)
            listing.add_folder(Path(folder).relative_to(path).as_posix())
            for file in sorted(files):
                place = Path(folder, file)
                listing.add(place.relative_to(path).as_posix(), place.is_file())
        self.names, self.empty = tuple(listing.names), listing.empty

    def stream(self, wanted: Collection[str], limit: int) -> Iterator[tuple[str, bytes]]:
        for name in self.names:
            if name in wanted:
                with reading(str(self.path / name)), open(self.path / name, "rb") as file:
                    self._check_size(name, os.fstat(file.fileno()).st_size, limit)
                    content = file.read(limit)
                yield name, content

    def open(self, name: str) -> IO[bytes]:
        with reading(str(self.path / name)):
            return open(self.path / name, "rb")

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for name in track(sorted(self.names), f"hashing {self.path.name}"):
            with reading(str(self.path / name)), open(self.path / name, "rb") as file:
                digest.update(f"{name}\0{os.fstat(file.fileno()).st_size}\0".encode("utf-8", "surrogateescape"))
                for block in iter(lambda: file.read(BLOCK), b""):
                    digest.update(block)
        return digest.hexdigest()
