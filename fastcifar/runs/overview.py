"""Runs as text for people: a line with the values that all runs share, and a table of the values that differ."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastcifar.runs.record import UNCHECKED
from fastcifar.runs.rows import COLUMNS, Row
from fastcifar.show.columns import Column, Fitted
from fastcifar.show.text import counted

LONGEST = 60  # characters that are shown of an error
HASH = 12  # characters that are shown of a hash

ALWAYS = ("run_id", "status", "epochs", "val_accuracy")
RANKED = (
    "recipe", "protocol", "lr", "model", "seed", "l2", "dropout", "batch_size", "experiment", "optimizer", "schedule",
    "smoothing", "tune", "code", "precision", "max_epochs", "pipeline", "weights", "kept_epoch", "val_loss",
    "images_per_s", "seconds", "dataset", "error",
)  # fmt: skip
"""The columns that are left out where the terminal is too narrow, the last one first."""
FORMATS = {
    "val_accuracy": "{:.4f}",
    "val_loss": "{:.4f}",
    "images_per_s": "{:,.0f}",
    "seconds": "{:,.1f}",
    "lr": "{:g}",
    "l2": "{:g}",
    "dropout": "{:g}",
    "smoothing": "{:g}",
    "code": f"{{:.{HASH}}}",
}


def overview(rows: Sequence[Row], width: int) -> tuple[list[str], Fitted]:
    """Return the notes above the table, and the table.

    rows: at least one. width: characters of the terminal. Where whole run-ids have no room, their last parts stand for
    them.
    """
    rows = [{**row, "dataset": name} for row, name in zip(rows, _datasets(rows), strict=True)]
    keys = [key for key in COLUMNS if key not in ("dataset_name", "checked")]
    varied = [key for key in keys if key in ALWAYS or any(row[key] != rows[0][key] for row in rows)]
    alike = ", ".join(
        f"{key} {text(key, rows[0][key])}" for key in keys if key not in varied and rows[0][key] is not None
    )
    notes = [f"{counted(len(rows), 'run')}{', all ' if len(rows) > 1 else ' '}of {alike or 'different configurations'}"]
    for checked, meaning in UNCHECKED.items():
        if count := sum(row["checked"] == checked for row in rows):
            notes.append(f"{counted(count, 'run')} {meaning}")
    columns = [_column(key, [text(key, row[key]) for row in rows]) for key in varied]
    table = Fitted(columns, more="--wide or --csv - shows them")
    endings = [row["run_id"].rpartition("-")[2] for row in rows]
    if table.natural() > width and len(set(endings)) == len(endings):
        notes.append("run_id: only its last part is shown, which is enough for --diff")
        table = replace(table, columns=[_column("run_id", endings), *columns[1:]])
    return notes, table


def _datasets(rows: Sequence[Row]) -> list[str]:
    """Return the name of each row's dataset, with the start of its hash where two datasets have the same name."""
    named: dict[str | None, set[str]] = {}
    for row in rows:
        named.setdefault(row["dataset_name"], set()).add(row["dataset"])
    shown = []
    for row in rows:
        name, start = row["dataset_name"], row["dataset"][:HASH]
        shown.append(start if name is None else name if len(named[name]) == 1 else f"{name} {start}")
    return shown


def text(key: str, value: Any) -> str:
    """Return the value of column ``key`` as text, empty for None."""
    return "" if value is None else FORMATS.get(key, "{}").format(value)


def _column(key: str, values: Sequence[str]) -> Column:
    cells = [_cut(value) for value in values] if key == "error" else values
    rank = 0 if key in ALWAYS else 1 + RANKED.index(key)
    return Column(key, cells, number=COLUMNS[key] is not str, rank=rank)


def _cut(value: str) -> str:
    """Return a text as one line of at most LONGEST characters. The CSV has the whole text."""
    line = " ".join(value.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
