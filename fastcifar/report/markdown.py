"""Write a report as report.md, for a repository: its figures are PNG files beside it."""

from fastcifar.report.contents import Contents
from fastcifar.show.markdown import escaped, table
from fastcifar.show.tables import EVIDENCE, Cell, Table

HASH = 8  # last characters of a run-id that are shown: enough for `fastcifar runs --diff`


def markdown(contents: Contents) -> str:
    """Return the text of report.md."""
    parts = [f"# {contents.title}", escaped(contents.lead), "## What the runs say"]
    parts += ["\n".join(f"- {escaped(each)}" for each in contents.said), "## What is here, and what is not"]
    parts += ["\n".join(f"- {escaped(note)}" for note in contents.notes), *_section(contents.claims)]
    parts.append("## The report's figures")
    for figure in contents.figures:
        missing = f" Missing: {figure.missing}." if figure.missing else ""
        parts.append(
            f"![{figure.title}, {figure.protocol}]({figure.file})\n\nFigure {figure.number}. {figure.title} "
            f"({figure.protocol}). {figure.evidence.text}.{missing}"
        )
    for each in contents.tables:
        parts += _section(each)
    return "\n\n".join([*parts, contents.foot]) + "\n"


def _section(shown: Table) -> list[str]:
    note = [shown.note] if shown.note else []
    return [f"## {shown.title}", *note, _table(shown) if shown.rows else "None of this was run."]


def _table(shown: Table) -> str:
    body = [[_cell(cell, name) for cell, name in zip(row, shown.columns, strict=True)] for row in shown.rows]
    return table(shown.columns, body, numbers=False).rstrip("\n")


def _cell(cell: Cell, column: str) -> str:
    if column == EVIDENCE and cell.runs:
        return " ".join(run[-HASH:] for run in cell.runs)
    return cell.text
