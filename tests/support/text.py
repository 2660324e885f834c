"""The text that a terminal shows for a table."""

from io import StringIO

from rich.console import Console


def text_of(*printed):
    written = StringIO()
    Console(width=200, file=written).print(*printed)
    return written.getvalue()
