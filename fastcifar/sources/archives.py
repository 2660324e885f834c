"""The files of a folder, zip, tar or 7z archive: listed, then streamed. Nothing is ever extracted to disk.

So no archive can write outside its target; names that try are refused all the same, and so are links, devices and
duplicates, because an archive that holds one is not what it claims to be.
"""

import hashlib
import os
import re
import stat
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.progress import track

BLOCK = 1 << 20  # bytes read at a time
TAR_BLOCK = 512  # bytes; two blocks of zeros end a tar file (POSIX.1-1988 ustar)
JUNK = {"__MACOSX", "Thumbs.db", "desktop.ini"}  # left by desktops in folders and archives; skipped like hidden files
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")  # the first bytes of gzip, bzip2 and xz


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever a library raises over damaged bytes into a FastcifarError naming ``what``."""
    try:
        yield
    except FastcifarError:
        raise
    except Exception as error:  # hostile bytes can raise anything: zlib.error, struct.error, EOFError, IndexError...
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FastcifarError(
            f"cannot read {what}: {detail}; it is damaged or incomplete: fetch or copy it again"
        ) from error


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256()
        for block in track(iter(lambda: file.read(BLOCK), b""), f"hashing {path.name}", total=size, size=len):
            digest.update(block)
    return digest.hexdigest()


class Files(ABC):
    """The regular files of a folder or archive, hidden ones left out.

    name: the folder's or archive's, for messages. names: safe relative names with "/" between parts, each once, in the
    order ``stream`` gives them.
    """

    name: str
    names: tuple[str, ...]

    @abstractmethod
    def stream(self, wanted: Collection[str], limit: int) -> Iterator[tuple[str, bytes]]:
        """(name, content) of each wanted file, in the archive's own order. More than ``limit`` bytes are an error."""

    @abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """A seekable view of one file, for an archive in the archive."""

    @abstractmethod
    def sha256(self) -> str:
        """The hash of the archive file; of a folder, that of its sorted names, sizes and contents."""

    def close(self) -> None:  # noqa: B027 - a folder holds nothing
        """Let go of the file."""

    @property
    def title(self) -> str:
        """The last part of the name: what the manifest says of where the images are from."""
        return Path(self.name).resolve().name

    def read(self, name: str, limit: int) -> bytes:
        """The content of one file."""
        ((_, content),) = self.stream({name}, limit)
        return content

    def _check_size(self, name: str, size: int, limit: int) -> None:
        if size > limit:
            raise FastcifarError(f"{name!r} in {self.name} has {size:,} bytes; at most {limit:,} are expected of it")


class Listing:
    """Collects the names of one folder or archive, refusing what has no business in it."""

    def __init__(self, archive: str) -> None:
        self.archive = archive
        self.names: dict[str, str] = {}  # safe name: the name as stored

    def add(self, stored: str, regular: bool = True) -> None:
        """Take a file's name as stored; skip a hidden one. Raises FastcifarError for links, escapes, duplicates."""
        parts = [part for part in stored.split("/") if part not in ("", ".")]
        if ".." in parts or stored.startswith("/") or re.match(r"[A-Za-z]:|.*[\\\0]", stored, re.DOTALL):
            raise FastcifarError(
                f"{self.archive} holds {stored!r}, a path that leads outside it; it is not to be trusted"
            )
        if not regular:
            raise FastcifarError(
                f"{self.archive} holds {stored!r}, a link or device; only plain files are expected in it"
            )
        if any(part.startswith(".") or part in JUNK for part in parts):
            return
        name = "/".join(parts)
        if name in self.names:
            raise FastcifarError(f"{self.archive} holds {name!r} twice; which of the two is meant cannot be told")
        self.names[name] = stored


class Folder(Files):
    """A directory tree. Links are followed: it is the user's own, and data sets are often linked into place."""

    def __init__(self, path: Path) -> None:
        self.name, self.path = str(path), path
        listing, visited = Listing(self.name), set()
        for folder, folders, files in os.walk(path, followlinks=True):
            real = os.path.realpath(folder)
            if real in visited:
                raise FastcifarError(f"{folder} is reached twice through a link; remove the link")
            visited.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in JUNK)
            for file in sorted(files):
                place = Path(folder, file)
                listing.add(place.relative_to(path).as_posix(), place.is_file())
        self.names = tuple(listing.names)

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


class Zip(Files):
    """A zip archive; its CRC-32s are checked as members are read."""

    def __init__(self, path: Path) -> None:
        self.name, self.path = str(path), path
        with reading(self.name):
            self._zip = zipfile.ZipFile(path)
        listing, self._infos = Listing(self.name), {}
        for info in sorted(self._zip.infolist(), key=lambda info: info.header_offset):
            if not info.is_dir():
                kind = stat.S_IFMT(info.external_attr >> 16)  # 0 when the archive was not made on Unix
                listing.add(info.filename, kind in (0, stat.S_IFREG))
                self._infos[info.filename] = info
        self.names = tuple(listing.names)
        self._stored = listing.names

    def stream(self, wanted: Collection[str], limit: int) -> Iterator[tuple[str, bytes]]:
        for name in self.names:
            if name in wanted:
                info = self._infos[self._stored[name]]
                self._check_size(name, info.file_size, limit)
                with reading(f"{name!r} in {self.name}"), self._zip.open(info) as file:
                    content = file.read(limit + 1)  # a bound, so that a bomb behind a small declared size stays small
                    if len(content) != info.file_size:
                        raise EOFError(f"{len(content):,} of {info.file_size:,} bytes")
                yield name, content

    def open(self, name: str) -> IO[bytes]:
        with reading(f"{name!r} in {self.name}"):
            return self._zip.open(self._infos[self._stored[name]])

    def sha256(self) -> str:
        return file_sha256(self.path)

    def close(self) -> None:
        self._zip.close()


class Tar(Files):
    """A tar archive, compressed or not: read from the start each time, so memory holds one member."""

    def __init__(self, path: Path) -> None:
        self.name, self.path = str(path), path
        listing = Listing(self.name)
        for _, member in self._members():
            if not member.isdir():
                listing.add(member.name, member.isreg())
        self.names = tuple(listing.names)
        self._stored = listing.names

    def _members(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        with reading(self.name), tarfile.open(self.path, "r:*") as archive:
            while True:
                with reading(self.name):
                    member = archive.next()
                if member is None:
                    break
                yield archive, member
                archive.members = []  # type: ignore[attr-defined]  # tarfile would keep all it has seen
            # tarfile takes a cut at a member's edge, or a damaged header, for the end; the real one is marked by zeros.
            # Reading on to the end of the file lets gzip, bzip2 and xz check their sums.
            stream = archive.fileobj
            assert stream is not None
            stream.seek(archive.offset)
            if stream.read(TAR_BLOCK) != bytes(TAR_BLOCK):
                raise EOFError("its end mark is missing")
            while stream.read(BLOCK):
                pass

    def stream(self, wanted: Collection[str], limit: int) -> Iterator[tuple[str, bytes]]:
        stored = {self._stored[name]: name for name in wanted}
        for archive, member in self._members():
            if member.name in stored:
                name = stored[member.name]
                self._check_size(name, member.size, limit)
                with reading(f"{name!r} in {self.name}"):
                    file = archive.extractfile(member)
                    assert file is not None
                    content = file.read()
                yield name, content

    def open(self, name: str) -> IO[bytes]:
        raise UsageError(f"{name!r} is an archive inside the tar archive {self.name}; unpack the tar archive first")

    def sha256(self) -> str:
        return file_sha256(self.path)


def open_files(path: Path) -> Files:
    """The folder or archive at ``path``, its kind told by content. Raises UsageError for anything else."""
    if path.is_dir():
        return Folder(path)
    with reading(str(path)), open(path, "rb") as file:
        start = file.read(TAR_BLOCK)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Zip(path)
    if start.startswith(b"7z\xbc\xaf\x27\x1c"):
        return open_7z(str(path), open(path, "rb"), path)
    if start.startswith(COMPRESSED) or start[257:262] == b"ustar":
        return Tar(path)
    raise UsageError(f"{path} is neither a folder nor a zip, tar (.gz, .bz2, .xz) or 7z archive")


def open_7z(name: str, file: IO[bytes], path: Path | None = None) -> Files:
    """A 7z archive in an open, seekable file; it closes the file. Raises UsageError where py7zr is not installed."""
    try:
        from fastcifar.sources.sevenzip import SevenZip
    except ImportError as error:
        file.close()
        raise UsageError(
            f"reading {name} needs py7zr ({error}): pip install 'fastcifar[kaggle]', or unpack it and give the folder"
        ) from error
    return SevenZip(name, file, path)
