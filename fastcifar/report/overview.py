"""Rows of runs for people: a line on what all have in common, and a table of what they differ in."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from fastcifar.report.rows import COLUMNS, Row

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


def overview(rows: Sequence[Row], console: Console) -> tuple[list[str], Table]:
    """What stands above the table, and the table, which fits the console where leaving out columns can make it fit.

    rows: at least one.
    """
    shared = common(rows)
    alike = ", ".join(f"{key} {text(key, value)}" for key, value in shared.items())
    each = f"{len(rows)} runs, all of " if len(rows) > 1 else "1 run of "
    varied = [key for key in COLUMNS if key in ALWAYS or any(row[key] != rows[0][key] for row in rows)]
    notes, left_out = [each + alike if alike else f"{len(rows)} runs, which have nothing in common"], []
    names = [row["run_id"] for row in rows]
    table = _table(rows, varied, names)
    endings = [name.rpartition("-")[2] for name in names]
    if not _fits(table, console) and len(set(endings)) == len(endings):
        notes.append("run_id: its last part, which is enough for --diff")
        table = _table(rows, varied, names := endings)
    for key in WIDE:
        if _fits(table, console):
            break
        if key in varied:
            varied.remove(key)
            left_out.append(key)
            table = _table(rows, varied, names)
    if left_out:
        notes.append(f"no room for {', '.join(left_out)}; a wider terminal has it, or --csv -")
    return notes, table


def text(key: str, value: Any) -> str:
    """A value as people read it; nothing where there is none."""
    return "" if value is None else FORMATS.get(key, "{}").format(value)


def _fits(table: Table, console: Console) -> bool:
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum <= console.width


def _table(rows: Sequence[Row], columns: Sequence[str], names: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for key in columns:
        # names as --only takes them, which may break at an underscore
        table.add_column(
            key.replace("_", "_\n", 1),
            justify="left" if COLUMNS[key] is str else "right",
            overflow="fold" if key == "run_id" else "ellipsis",
            no_wrap=key != "run_id",
            max_width=40 if key == "error" else None,
        )
    for row, name in zip(rows, names, strict=True):
        table.add_row(*(escape(name if key == "run_id" else text(key, row[key])) for key in columns))
    return table
