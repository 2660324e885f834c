"""The output functions of the commands: plain text, and tables that are wide enough for their columns."""

import sys

from rich.console import Console


def console() -> Console:
    """Return the console for tables; if stdout is not a terminal, the console is 140 columns wide."""
    return Console() if sys.stdout.isatty() else Console(width=140)


def say(text: str, stderr: bool = False) -> None:
    """Print a line without wrapping, colours or markup."""
    Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False).print(text)


def note(text: str) -> None:
    """Print a line to stderr: information for the user that is not part of a command's output."""
    say(text, stderr=True)
