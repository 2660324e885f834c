"""What people can read of a table or a text on a terminal of a given width."""

import re
from collections.abc import Iterable
from io import StringIO
from typing import Any

from rich.console import Console

WIDTHS = (60, 80, 100, 160)
"""The widths of terminals, in columns, at which tables are tested."""
BORDERS = re.compile("[\u2500-\u257f]")


def render(renderable: Any, width: int) -> str:
    """Return what a terminal of ``width`` columns shows for a renderable of rich, or for a text, without colours."""
    written = StringIO()
    Console(file=written, width=width, color_system=None, emoji=False, highlight=False).print(renderable)
    return written.getvalue()


def readable(text: str, words: Iterable[str]) -> None:
    """Fail where a word of ``words`` does not stand whole in one line of the text, or where the text has an ellipsis.

    words: numbers, names and headers that must be readable; each is split at its spaces, as a line may end there.
    """
    seen = {word for line in text.splitlines() for word in BORDERS.sub(" ", line).split()}
    cut = [word for each in words for word in each.split() if word not in seen]
    assert not cut, f"{cut} are not whole in\n{text}"
    assert "…" not in text, f"something is left out, as … says, in\n{text}"
