"""The contents of a report, independent of its form: an HTML page or Markdown."""

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
    """The name of the figure's PNG file, in the report's folder."""
    svg: str
    """The figure as an SVG element."""
    panels: int
    """The number of panels side by side in the figure."""
    missing: str
    """The runs that the figure lacks, in words."""
    evidence: Cell
    """The number of runs that the figure is drawn from, and their ids."""


@dataclass(frozen=True)
class Contents:
    """The parts of a report, in their order."""

    title: str
    lead: str
    said: Sequence[str]
    """Sentences on what the runs say of the claims, the most important part."""
    notes: Sequence[str]
    """Sentences on what the report covers and what is missing."""
    claims: Table
    figures: Sequence[Drawn]
    tables: Sequence[Table]
    """All tables except the claims."""
    foot: str
