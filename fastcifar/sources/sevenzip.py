"""Members of a 7z archive, streamed: py7zr pushes them from a thread, through a short queue, to whoever reads."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full, Queue
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import IO

from py7zr import SevenZipFile
from py7zr.io import Py7zIO, WriterFactory

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.sources.archives import Files, Listing, file_sha256, reading

QUEUED = 1024  # members decompressed ahead of the reader
WAIT = 0.1  # seconds between looks at whether the other side still lives


class SevenZip(Files):
    """A 7z archive; its CRC-32s are checked as members are read."""

    def __init__(self, name: str, file: IO[bytes], path: Path | None) -> None:
        self.name, self.path, self._file = name, path, file
        with reading(name):
            self._zip = SevenZipFile(file)
            if self._zip.needs_password():
                raise UsageError(f"{name} is encrypted; decrypt it first")
        listing, self._sizes = Listing(name), {}
        for member in self._zip.files:
            if not member.is_directory:
                listing.add(member.filename, not (member.is_symlink or member.is_junction or member.is_socket))
                self._sizes[member.filename] = member.uncompressed
        self.names = tuple(listing.names)
        self._stored = listing.names

    def stream(self, wanted: Collection[str], limit: int) -> Iterator[tuple[str, bytes]]:
        stored = {self._stored[name] for name in wanted}
        for name in wanted:
            self._check_size(name, self._sizes[self._stored[name]], limit)
        queue: Queue[tuple[str, bytes]] = Queue(QUEUED)
        stop, failed = Event(), []

        def extract() -> None:
            try:
                with reading(self.name), TemporaryDirectory() as empty:  # py7zr names members by a path; none is made
                    self._zip.reset()
                    self._zip.extract(empty, stored, factory=_Factory(len(empty) + 1, queue, stop))
            except FastcifarError as error:
                failed.append(error)

        thread = Thread(target=extract, daemon=True)
        thread.start()
        try:
            while thread.is_alive() or not queue.empty():
                try:
                    member = queue.get(timeout=WAIT)
                except Empty:
                    continue
                yield member
            if failed:
                raise failed[0]
        finally:
            stop.set()
            thread.join()

    def open(self, name: str) -> IO[bytes]:
        raise UsageError(f"{name!r} is an archive inside the 7z archive {self.name}; unpack the 7z archive first")

    def sha256(self) -> str:
        assert self.path is not None, "an archive inside an archive is hashed with the outer one"
        return file_sha256(self.path)

    def close(self) -> None:
        self._zip.close()
        self._file.close()


class _Factory(WriterFactory):
    """Makes the file-like object that py7zr writes a member to; ``skip`` characters of its path are not the name."""

    def __init__(self, skip: int, queue: "Queue[tuple[str, bytes]]", stop: Event) -> None:
        self._skip, self._queue, self._stop = skip, queue, stop

    def create(self, filename: str) -> Py7zIO:
        return _Member(filename[self._skip :], self._queue, self._stop)


class _Member(Py7zIO):
    """Gathers one member and queues it when py7zr closes it, which it does only after the checksum agreed."""

    def __init__(self, name: str, queue: "Queue[tuple[str, bytes]]", stop: Event) -> None:
        self._name, self._queue, self._stop, self._content = name, queue, stop, bytearray()

    def write(self, s: bytes | bytearray) -> int:
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

    def close(self) -> None:
        while not self._stop.is_set():
            with suppress(Full):
                return self._queue.put((self._name, bytes(self._content)), timeout=WAIT)
        raise InterruptedError("the reader has left")
