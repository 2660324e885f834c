"""A table for people: each cell has a text, a value to sort by, and the ids of the runs behind the text."""

from collections.abc import Sequence
from dataclasses import dataclass, field

EVIDENCE = "runs"
"""The name of the column with the ids of the runs behind a row."""


@dataclass(frozen=True)
class Cell:
    """A cell. text: the text for people. value: the value to sort by; None sorts by the text. runs: run-ids."""

    text: str
    value: float | None = None
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table. name: its address on the page. note: an explanation for the reader."""

    name: str
    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]] = field(default_factory=list)
