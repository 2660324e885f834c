"""Keep what a library writes to standard output and standard error out of the terminal."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TextIO

STDERR = 2  # the file descriptor of standard error


@contextmanager
def output_in(file: Path) -> Iterator[None]:
    """Append to a file, until the context ends, what is written to file descriptor 2 or printed to sys.stdout.

    Libraries in C++, and loggers that were made before, write to the descriptor. What this process prints to sys.stderr
    is still shown, as sys.stderr is a copy of the terminal meanwhile. Raises OSError where the file cannot be written.
    """
    before, shown = sys.stderr, os.dup(STDERR)
    with (
        open(shown, "w", buffering=1, encoding=before.encoding, errors="backslashreplace") as terminal,
        open(file, "a", buffering=1, encoding="utf-8") as log,
        redirect_stdout(log),
    ):
        before.flush()
        os.dup2(log.fileno(), STDERR)
        if _writes_to_stderr(before):
            sys.stderr = terminal
        try:
            yield
        finally:
            before.flush()
            sys.stderr.flush()
            os.dup2(shown, STDERR)
            if sys.stderr is terminal:
                sys.stderr = before


def _writes_to_stderr(stream: TextIO) -> bool:
    """Return whether a stream writes to file descriptor 2. A notebook's or a test's stream may not."""
    try:
        return stream.fileno() == STDERR
    except (OSError, ValueError):  # a stream without a file
        return False
