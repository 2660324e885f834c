"""What a report holds, whichever form it takes: a page or Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastcifar.show.tables import Cell, Table


@dataclass(frozen=True)
class Drawn:
    """A figure of the report under a protocol."""

    number: int
    protocol: str
    title: str
    file: str
    """its PNG, in the report's folder"""
    svg: str
    """an SVG element"""
    panels: int
    """beside each other in it"""
    missing: str
    """the runs that it lacks, for people"""
    evidence: Cell
    """how many runs it is drawn from, and which"""


@dataclass(frozen=True)
class Contents:
    """The parts of a report, in their order."""

    title: str
    lead: str
    notes: Sequence[str]
    """what there is and what is missing, a sentence each"""
    claims: Table
    figures: Sequence[Drawn]
    tables: Sequence[Table]
    """every other table"""
    foot: str
