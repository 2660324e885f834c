"""Bars in a terminal: a line for each number, as long as the number is large."""

from collections.abc import Mapping

from fastcifar.show.console import encodes

LABEL, NUMBER, BAR = 13, 10, 34  # columns; together they fit into 60


def bars(numbers: Mapping[str, float | None]) -> str:
    """Return a line for each number: its label, the number rounded to an integer, and a bar.

    numbers: not negative; None: there is no number, and "none" takes its place. The largest has the longest bar.
    """
    most = max([number for number in numbers.values() if number is not None], default=0.0) or 1.0
    block = "█" if encodes("█") else "#"
    return "\n".join(
        f"{label:<{LABEL}}{'none':>{NUMBER}}"
        if number is None
        else f"{label:<{LABEL}}{number:>{NUMBER},.0f} {block * max(1, round(BAR * number / most))}"
        for label, number in numbers.items()
    )
