"""The text that a terminal shows for a table."""

import re
from io import StringIO

from rich.console import Console

from fastcifar.show.console import command_name

NEWS = re.compile(
    r".*; loading torch|(cpu|cuda\S*), (float32|bfloat16|float16)|reading the runs below .*"
    r"|\S+, seed \d+: (epoch|ended after) \d+.*"
)


def text_of(*printed):
    written = StringIO()
    Console(width=200, file=written).print(*printed)
    return written.getvalue()


def rows_of(text):
    """Return the cells of the lines of a table: its header and its rows, without empty cells."""
    lines = (line for line in text.splitlines() if line.strip() and "─" not in line)
    return [re.split(r"\s{2,}", line.strip()) for line in lines]


def without_news(err):
    """Return a command's stderr without the lines that say what it begins, such as the load of torch."""
    return "".join(line for line in err.splitlines(keepends=True) if not NEWS.fullmatch(line.rstrip("\n")))


def next_of(*command):
    """Return the line that names the next command."""
    return f"next: {command_name()} {' '.join(map(str, command))}\n"
