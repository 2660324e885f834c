"""Streamed members of a 7z archive: py7zr runs in a thread, and a short queue passes its members to the reader."""

import io
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import IO

from py7zr import SevenZipFile
from py7zr.io import Py7zIO, WriterFactory

from fastcifar.data.sources.files import Files, Listing, file_sha256, reading
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.system.scratch import Scratch

QUEUED = 1024  # members decompressed ahead of the reader
SIP, GULP = 256, 1 << 16  # bytes of compressed input that py7zr gets at a time
WAIT = 0.1  # seconds between checks that the other side is alive


class SevenZip(Files):
    """A 7z archive; its CRC-32s are checked as members are read."""

    def __init__(self, name: str, file: IO[bytes], path: Path | None) -> None:
        self.name, self.path, self._file = name, path, _Frugal(file)
        self._stop, self._thread = Event(), Thread()
        listing, self._sizes = Listing(name), {}
        try:
            with reading(name):
                self._zip = SevenZipFile(self._file)
                if self._zip.needs_password():
                    raise UsageError(f"{name} is encrypted; decrypt it first")
                for member in self._zip.files:
                    if member.is_directory:
                        listing.add_folder(member.filename)
                    else:
                        listing.add(member.filename, not (member.is_symlink or member.is_junction or member.is_socket))
                        self._sizes[member.filename] = member.uncompressed
        except BaseException:
            self._file.close()
            raise
        self.names, self.empty = tuple(listing.names), listing.empty
        self._stored = listing.names

    def stream(self, wanted: Collection[str], limit: int) -> Iterator[tuple[str, bytes]]:
        for name in wanted:
            self._check_size(name, self._sizes[self._stored[name]], limit)
        queue: Queue[tuple[str, bytes]] = Queue(QUEUED)
        failed = []

        def extract() -> None:
            try:
                with reading(self.name), Scratch() as empty:  # py7zr needs a path; no file is made
                    self._zip.reset()
                    self._file.frugal = True
                    sink = _Sink(wanted, len(empty) + 1, self._file, queue, self._stop)
                    self._zip.extractall(empty, factory=sink)
                    sink.finish()
            except FastcifarError as error:
                failed.append(error)

        self._stop.clear()
        self._thread = Thread(target=extract, daemon=True)
        self._thread.start()
        try:
            while self._thread.is_alive() or not queue.empty():
                with suppress(Empty):
                    yield queue.get(timeout=WAIT)
            if failed:
                raise failed[0]
        finally:
            self._halt()

    def _halt(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def open(self, name: str) -> IO[bytes]:
        raise UsageError(f"{name!r} is an archive inside the 7z archive {self.name}; unpack the 7z archive first")

    def sha256(self) -> str:
        assert self.path is not None, "an archive inside an archive is hashed with the outer one"
        return file_sha256(self.path)

    def close(self) -> None:
        self._halt()
        with suppress(Exception):  # for some damaged archives py7zr's own close fails, which would hide the damage
            self._zip.close()
        self._file.close()


class _Frugal(io.BufferedIOBase):
    """The archive file. If ``frugal`` is set, it gives the decompressor only small pieces.

    py7zr reads a megabyte for every member, even a small one, and input that the decompressor does not need yet stays
    in memory. For small images, this is the whole archive. So a read gives GULP bytes only if the last read produced
    no output, else SIP bytes. fed: whether the decompressor has produced output since the last read.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.frugal, self.fed = file, False, False

    def read(self, size: int | None = -1) -> bytes:
        if self.frugal and size is not None:
            size = min(size, SIP if self.fed else GULP)
        self.fed = False
        return self._file.read(-1 if size is None else size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


class _Sink(WriterFactory, Py7zIO):
    """The writer for py7zr's members, one after the other: it collects each wanted member, and queues complete ones.

    A member is complete when py7zr starts the next member, or has finished all. By then py7zr has checked the checksum
    of the member, or has raised an error.
    """

    def __init__(
        self,
        wanted: Collection[str],
        skip: int,  # characters of a path before the member's name
        source: _Frugal,
        queue: "Queue[tuple[str, bytes]]",
        stop: Event,
    ) -> None:
        self._wanted, self._skip, self._source, self._queue, self._stop = wanted, skip, source, queue, stop
        self._name, self._content = "", bytearray()

    def create(self, filename: str) -> Py7zIO:
        self.finish()
        name = filename[self._skip :]
        self._name = name if name in self._wanted else ""
        return self

    def finish(self) -> None:
        """Queue the complete member, if there is one. Raises InterruptedError if the reader has stopped."""
        content, self._content = bytes(self._content), bytearray()
        if self._stop.is_set():
            raise InterruptedError("the reader has stopped")
        while self._name and not self._stop.is_set():
            with suppress(Full):
                self._queue.put((self._name, content), timeout=WAIT)
                self._name = ""

    def write(self, s: bytes | bytearray) -> int:
        self._source.fed = True
        if self._name:
            self._content += s
        return len(s)

    def read(self, size: int | None = None) -> bytes:
        return bytes(self._content[:size])

    def seek(self, offset: int, whence: int = 0) -> int:
        return offset

    def flush(self) -> None:
        pass

    def size(self) -> int:
        return len(self._content)
