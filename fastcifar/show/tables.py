"""A table for people: cells are text, with the value that they are sorted by and the runs that they rest on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

EVIDENCE = "runs"
"""the column that says which run-ids a line rests on"""


@dataclass(frozen=True)
class Cell:
    """text for people; value: what it is sorted by, text itself where that is None; runs: run-ids."""

    text: str
    value: float | None = None
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """name: its address on the page; note: how it is to be read."""

    name: str
    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]] = field(default_factory=list)
