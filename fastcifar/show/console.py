"""What commands print with: text as it is, and tables with room for their columns."""

import sys

from rich.console import Console


def console() -> Console:
    """Where tables go; where nobody's window sets a width, they have room for their columns."""
    return Console() if sys.stdout.isatty() else Console(width=140)


def say(text: str, stderr: bool = False) -> None:
    """Print a line, neither wrapped nor coloured; brackets are no markup."""
    Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False).print(text)


def note(text: str) -> None:
    """Print a line to stderr: what a person should know beside the answer of a command."""
    say(text, stderr=True)
