"""Runs as text for people: a line with the values that all runs share, and a table of the values that differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastcifar.runs.rows import COLUMNS, Row
from fastcifar.show.text import counted

GAP, HEADER = "  ", 2  # the space between columns, and the number of lines of the header
LONGEST = 60  # characters that are shown of an error

ALWAYS = ("run_id", "status", "epochs", "val_accuracy")
WIDE = ("error", "dataset", "seconds", "images_per_s", "val_loss", "kept_epoch", "weights", "pipeline", "max_epochs")
"""The columns that are left out where the terminal is too narrow, the first one first."""
FORMATS = {
    "val_accuracy": "{:.4f}",
    "val_loss": "{:.4f}",
    "images_per_s": "{:,.0f}",
    "seconds": "{:,.1f}",
    "lr": "{:g}",
    "l2": "{:g}",
    "dropout": "{:g}",
    "smoothing": "{:g}",
    "dataset": "{:.12}",
    "code": "{:.12}",
}


def common(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the values that all rows share, without None and without the columns that are always shown."""
    return {
        key: rows[0][key]
        for key in COLUMNS
        if key not in ALWAYS and rows[0][key] is not None and all(row[key] == rows[0][key] for row in rows)
    }


def overview(rows: Sequence[Row], width: int) -> tuple[list[str], list[str]]:
    """Return the notes above the table, and the lines of the table.

    rows: at least one. width: characters of the terminal; columns are left out where lines would be longer. The table
    is plain text, because a table of rich takes a second for 250 runs.
    """
    shared = common(rows)
    alike = ", ".join(f"{key} {text(key, value)}" for key, value in shared.items())
    notes = [f"{counted(len(rows), 'run')}{', all ' if len(rows) > 1 else ' '}of {alike or 'different configurations'}"]
    varied = [key for key in COLUMNS if key in ALWAYS or any(row[key] != rows[0][key] for row in rows)]
    cells = {key: _cells(key, [text(key, row[key]) for row in rows]) for key in varied}

    endings = [row["run_id"].rpartition("-")[2] for row in rows]
    if _width(cells) > width and len(set(endings)) == len(endings):
        notes.append("run_id: only its last part is shown, which is enough for --diff")
        cells["run_id"] = _cells("run_id", endings)
    left_out = []
    for key in WIDE:
        if key in cells and _width(cells) > width:
            left_out.append(key)
            del cells[key]
    if left_out:
        notes.append(f"no room for {', '.join(left_out)}; use a wider terminal, or --csv -")
    lines = [GAP.join(line).rstrip() for line in zip(*cells.values(), strict=True)]
    return notes, [*lines[:HEADER], "─" * min(_width(cells), width), *lines[HEADER:]]


def text(key: str, value: Any) -> str:
    """Return the value of column ``key`` as text, empty for None."""
    return "" if value is None else FORMATS.get(key, "{}").format(value)


def _cells(key: str, values: Sequence[str]) -> list[str]:
    """Return the cells of a column, all of one width: HEADER lines with its name, split at "_", and its values."""
    first, underscore, rest = key.partition("_")
    texts = [
        first + underscore if rest else "",
        rest or first,
        *(_cut(value) if key == "error" else value for value in values),
    ]
    wide = max(map(len, texts))
    return [text.ljust(wide) if COLUMNS[key] is str else text.rjust(wide) for text in texts]


def _cut(value: str) -> str:
    """Return a text as one line of at most LONGEST characters. The CSV has the whole text."""
    line = " ".join(value.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _width(cells: Mapping[str, Sequence[str]]) -> int:
    return sum(len(column[0]) + len(GAP) for column in cells.values()) - len(GAP)
