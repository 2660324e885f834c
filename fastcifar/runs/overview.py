"""Rows of runs for people: a line on what all have in common, and a table of what they differ in."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastcifar.runs.rows import COLUMNS, Row
from fastcifar.show.text import counted

GAP, HEADER = "  ", 2  # between columns; lines of their names
LONGEST = 60  # characters of an error

ALWAYS = ("run_id", "status", "epochs", "val_accuracy")
WIDE = ("error", "dataset", "seconds", "images_per_s", "val_loss", "kept_epoch", "weights", "pipeline", "max_epochs")
"""what is left out first where the terminal is too narrow"""
FORMATS = {
    "val_accuracy": "{:.4f}",
    "val_loss": "{:.4f}",
    "images_per_s": "{:,.0f}",
    "seconds": "{:,.1f}",
    "lr": "{:g}",
    "l2": "{:g}",
    "dropout": "{:g}",
    "dataset": "{:.12}",
}


def common(rows: Sequence[Row]) -> dict[str, Any]:
    """What all rows share, apart from columns that are always shown and from values that there are not."""
    return {
        key: rows[0][key]
        for key in COLUMNS
        if key not in ALWAYS and rows[0][key] is not None and all(row[key] == rows[0][key] for row in rows)
    }


def overview(rows: Sequence[Row], width: int) -> tuple[list[str], list[str]]:
    """What stands above the table, and the table's lines, which are no longer than ``width`` where leaving out columns
    can make them fit.

    rows: at least one. Plain text, as rich's tables take a second for 250 runs.
    """
    shared = common(rows)
    alike = ", ".join(f"{key} {text(key, value)}" for key, value in shared.items())
    notes = [f"{counted(len(rows), 'run')}{', all ' if len(rows) > 1 else ' '}of {alike or 'nothing alike'}"]
    varied = [key for key in COLUMNS if key in ALWAYS or any(row[key] != rows[0][key] for row in rows)]
    cells = {key: _cells(key, [text(key, row[key]) for row in rows]) for key in varied}

    endings = [row["run_id"].rpartition("-")[2] for row in rows]
    if _width(cells) > width and len(set(endings)) == len(endings):
        notes.append("run_id: its last part, which is enough for --diff")
        cells["run_id"] = _cells("run_id", endings)
    left_out = []
    for key in WIDE:
        if key in cells and _width(cells) > width:
            left_out.append(key)
            del cells[key]
    if left_out:
        notes.append(f"no room for {', '.join(left_out)}; a wider terminal has it, or --csv -")
    lines = [GAP.join(line).rstrip() for line in zip(*cells.values(), strict=True)]
    return notes, [*lines[:HEADER], "─" * min(_width(cells), width), *lines[HEADER:]]


def text(key: str, value: Any) -> str:
    """A value as people read it; nothing where there is none."""
    return "" if value is None else FORMATS.get(key, "{}").format(value)


def _cells(key: str, values: Sequence[str]) -> list[str]:
    """A column: its name over HEADER lines, broken at an underscore, and the values, all equally wide."""
    first, underscore, rest = key.partition("_")
    texts = [
        first + underscore if rest else "",
        rest or first,
        *(_cut(value) if key == "error" else value for value in values),
    ]
    wide = max(map(len, texts))
    return [text.ljust(wide) if COLUMNS[key] is str else text.rjust(wide) for text in texts]


def _cut(value: str) -> str:
    """On one line, which is not too long; the whole is in the CSV."""
    line = " ".join(value.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _width(cells: Mapping[str, Sequence[str]]) -> int:
    return sum(len(column[0]) + len(GAP) for column in cells.values()) - len(GAP)
