"""The output functions of the commands: plain text, tables that fit the terminal, and what to do next."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TextIO

from rich.console import Console

WIDEST = 10_000  # columns of a console without a terminal: the lines of a file or a pipe stay whole


def console(wide: bool = False) -> Console:
    """Return the console for tables.

    Its width is the environment variable COLUMNS or the terminal's. Where stdout is neither a terminal nor COLUMNS is
    set, lines are as long as their tables need. wide: lines are as long as their tables need in any case.
    """
    columns, lines = shutil.get_terminal_size((WIDEST, 24))
    return Console(width=WIDEST if wide else columns, height=lines)  # without a height, TERM=dumb would mean 80 columns


def say(text: str, stderr: bool = False) -> None:
    """Print a line without colours or markup. On a terminal, it is folded between words; elsewhere it stays whole."""
    stream = sys.stderr if stderr else sys.stdout
    width = _terminal_width(stream)
    _print(text if width is None else "\n".join(_words(text, width)), stream)


def note(text: str) -> None:
    """Print a line to stderr: information for the user that is not part of a command's output."""
    say(text, stderr=True)


def encodes(text: str) -> bool:
    """Return whether stdout's encoding has all characters of a text."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def next_step(*arguments: object) -> None:
    """Print the command of fastcifar that comes next, on a line of stderr that can be copied.

    arguments: those of the command. They are quoted for a shell where that is necessary.
    """
    _print(f"next: {shlex.join([command_name(), *map(str, arguments)])}", sys.stderr)


def command_name() -> str:
    """Return how a user calls this program: by its name if that is on PATH, else by its file, as in .venv/bin."""
    file = Path(sys.executable).with_name("fastcifar")
    if shutil.which("fastcifar") or not file.is_file():
        return "fastcifar"
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)


def _print(text: str, stream: TextIO) -> None:
    """Print a text as it is. While a progress bar is shown, rich replaces the stream, and puts the text above the bar;
    a console of its own would print into the bar's line.
    """
    print(text, file=stream, flush=True)


def _words(text: str, width: int) -> list[str]:
    """Return a text in lines that end at spaces. A path stays whole, so that it can be copied."""
    lines: list[str] = []
    for line in text.split("\n"):
        if len(line) <= width:
            lines.append(line)
            continue
        lines.append("")
        for word in line.split(" "):
            if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
                lines.append(word)
            else:
                lines[-1] += f"{' ' if lines[-1] else ''}{word}"
    return lines


def _terminal_width(stream: TextIO) -> int | None:
    """Return the columns of the terminal behind a stream, or None where it is no terminal."""
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else None
    except (OSError, ValueError):  # a stream without a file
        return None
