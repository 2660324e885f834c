"""Zip, tar and 7z archives as ``Files``: members are streamed and their checksums tested, without files on disk."""

import stat
import tarfile
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

from fastcifar.data.sources.files import BLOCK, Files, Folder, Listing, file_sha256, reading
from fastcifar.errors import UsageError
from fastcifar.system import cures

TAR_BLOCK = 512  # bytes; two blocks of zeros end a tar file (POSIX.1-1988 ustar)
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")  # the first bytes of gzip, bzip2 and xz files


class Zip(Files):
    """A zip archive; its CRC-32s are checked as members are read."""

    def __init__(self, path: Path) -> None:
        self.name, self.path = str(path), path
        with reading(self.name):
            self._zip = zipfile.ZipFile(path)
        listing, self._infos = Listing(self.name), {}
        for info in sorted(self._zip.infolist(), key=lambda info: info.header_offset):
            if info.is_dir():
                listing.add_folder(info.filename)
            else:
                kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if the archive was not made on Unix
                listing.add(info.filename, kind in (0, stat.S_IFREG))
                self._infos[info.filename] = info
        self.names, self.empty = tuple(listing.names), listing.empty
        self._stored = listing.names

    def stream(self, wanted: Collection[str], limit: int) -> Iterator[tuple[str, bytes]]:
        for name in self.names:
            if name in wanted:
                info = self._infos[self._stored[name]]
                self._check_size(name, info.file_size, limit)
                with reading(f"{name!r} in {self.name}"), self._zip.open(info) as file:
                    content = file.read(limit + 1)  # this bounds a zip bomb with a false declared size
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
    """A tar archive, compressed or not. Each pass reads it from the start, so memory holds only one member."""

    def __init__(self, path: Path) -> None:
        self.name, self.path = str(path), path
        listing = Listing(self.name)
        for _, member in self._members():
            if member.isdir():
                listing.add_folder(member.name)
            else:
                listing.add(member.name, member.isreg())
        self.names, self.empty = tuple(listing.names), listing.empty
        self._stored = listing.names

    def _members(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        with reading(self.name), tarfile.open(self.path, "r:*") as archive:
            while True:
                with reading(self.name):
                    member = archive.next()
                if member is None:
                    break
                yield archive, member
                archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every member
            # For tarfile, a file cut between members or a damaged header is the end; only zeros mark the real end.
            # gzip, bzip2 and xz check their checksums only if the file is read to its end.
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
    """Open the folder or archive at ``path``; its first bytes decide the kind. Raises UsageError for another file."""
    if path.is_dir():
        return Folder(path)
    if not path.is_file():
        raise UsageError(f"{path} is a device or a pipe, not a file; give a folder or an archive")
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
    """Open a 7z archive in a seekable file; the archive closes the file. Raises UsageError without py7zr."""
    try:
        from fastcifar.data.sources.sevenzip import SevenZip
    except ImportError as error:
        file.close()
        raise UsageError(
            f"reading {name} needs py7zr ({error}): {cures.extra('kaggle')}, or unpack it and give the folder"
        ) from error
    return SevenZip(name, file, path)
