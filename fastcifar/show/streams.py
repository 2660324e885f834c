"""Standard output and standard error of the commands: any encoding will do, and a closed one ends them quietly."""

import codecs
import io
import os
import sys
import unicodedata

from fastcifar.errors import FastcifarError

UNREAD = 141  # the exit status of a program that SIGPIPE ends, 128 + 13
REPLACING = "fastcifar.replacing"
"""The name of the error handler of codecs that `replaced` makes."""
ASCII = {
    "±": "+-", "×": "x", "→": "->", "−": "-", "–": "-", "—": "-", "≥": ">=", "≤": "<=", "≈": "~", "·": ".",
    "’": "'", "‘": "'", "“": '"', "”": '"', "█": "#", "━": "-", "─": "-", "│": "|",
}  # fmt: skip
"""Characters of our own output that are not in ASCII, with what stands for them."""


def replaced(error: UnicodeError) -> tuple[str, int]:
    """Return the ASCII text for the characters that an encoding lacks, and the position after them.

    A character of ASCII's table, or one that Unicode decomposes to letters of ASCII, has its own text. Every other
    character, also half of a surrogate pair, becomes a question mark.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_in_ascii, error.object[error.start : error.end])), error.end


def _in_ascii(letter: str) -> str:
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return ASCII.get(letter) or plain or "?"


class Output(io.TextIOWrapper):
    """A standard stream that replaces the characters that its encoding lacks.

    When nobody reads the stream any more, a write raises SystemExit(UNREAD), so that the program ends without a
    message, as others do in ``fastcifar runs | head -1``. Where standard output cannot be written for another reason,
    such as a full disk, a write raises FastcifarError. What is written after an error is lost.
    """

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._end(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            raise SystemExit(UNREAD) from error
        if self.fileno() == 1:
            raise FastcifarError(
                f"standard output cannot be written: {error.strerror}; send it to another place"
            ) from error


def prepare() -> None:
    """Make sys.stdout and sys.stderr an `Output`. A stream that a test or a notebook put there only gets REPLACING.

    A stream that is closed, as by ``>&-``, is opened again and leads nowhere. Otherwise its file descriptor would go to
    the next file that is opened, and the output of a library would end in this file.
    """
    codecs.register_error(REPLACING, replaced)
    _open_closed()
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:  # it was closed when Python started
            nowhere = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
            setattr(sys, name, Output(nowhere, "utf-8", REPLACING, line_buffering=True))
        elif type(stream) is io.TextIOWrapper:
            stream.flush()
            lines, at_once = stream.line_buffering, stream.write_through
            setattr(
                sys,
                name,
                Output(stream.buffer, stream.encoding, REPLACING, line_buffering=lines, write_through=at_once),
            )
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=REPLACING)


def _open_closed() -> None:
    """Open the standard streams whose file descriptors are closed. They lead nowhere."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:  # open takes the lowest number that is free
        os.set_inheritable(opened, True)
    os.close(opened)
