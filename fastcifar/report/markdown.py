"""report.md: the same report for a repository, with its figures beside it."""

from collections.abc import Sequence

from fastcifar.report.page import Drawn
from fastcifar.show.markdown import plain
from fastcifar.show.markdown import table as lines
from fastcifar.show.tables import EVIDENCE, Cell, Table

HASH = 8  # the last characters of a run-id: enough for `fastcifar runs --diff`


def markdown(tables: Sequence[Table], figures: Sequence[Drawn], files: Sequence[str], notes: Sequence[str],
             title: str, lead: str, foot: str) -> str:  # fmt: skip
    """files: those of the figures, PNGs in the same folder."""
    parts = [f"# {title}", lead, "## What is here, and what is not", "\n".join(f"- {plain(note)}" for note in notes)]
    for table in tables:
        if table.name == "configurations":
            parts.append("## The report's figures")
            for figure, file in zip(figures, files, strict=True):
                missing = f" Missing: {figure.missing}." if figure.missing else ""
                parts.append(
                    f"![{figure.title}, {figure.protocol}]({file})\n\nFigure {figure.number}. {figure.title} "
                    f"({figure.protocol}). {figure.evidence.text}.{missing}"
                )
        parts.append(f"## {table.title}")
        if table.note:
            parts.append(table.note)
        parts.append(_table(table) if table.rows else "None of this was run.")
    return "\n\n".join([*parts, foot]) + "\n"


def _table(table: Table) -> str:
    body = [[_cell(cell, name) for cell, name in zip(row, table.columns, strict=True)] for row in table.rows]
    return lines(table.columns, body, numbers=False).rstrip("\n")


def _cell(cell: Cell, column: str) -> str:
    if column == EVIDENCE and cell.runs:
        return " ".join(run[-HASH:] for run in cell.runs)
    return cell.text
