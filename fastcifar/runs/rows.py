"""Runs as rows of a table: their columns, and how rows are chosen and ordered."""

from collections.abc import Sequence
from typing import Any

from fastcifar.runs.record import RESULTS, SPEC, RunRecord
from fastcifar.runs.settings import parse_choices, require_key

Row = dict[str, Any]

_LATER = ("pipeline", "tune", "weights", "dataset")  # fields of the spec that few runs differ in
COLUMNS: dict[str, type] = {
    "run_id": str,
    **{name: kind for name, kind in SPEC.items() if name not in ("epochs", *_LATER)},
    **RESULTS,
    "status": str,
    "max_epochs": int,
    **{name: SPEC[name] for name in _LATER},
    "error": str,
}
"""A row's keys, in order, with their types. epochs: the run's epochs so far; max_epochs: the spec's. Of a run that has
not ended, the results are those so far. A value that does not exist is None."""


def row_of(record: RunRecord) -> Row:
    """A run's row."""
    values = {**record.spec, **record.results, "max_epochs": record.spec["epochs"], "run_id": record.run_id}
    values |= {"status": record.status, "error": record.error}
    return {name: values.get(name) for name in COLUMNS}


def choose(rows: Sequence[Row], only: list[str]) -> list[Row]:
    """The rows that have one of the values of each ``key=value,value``. Raises UsageError as `parse_choices` does."""
    choices = parse_choices(only, COLUMNS, "--only")
    return [row for row in rows if all(row[key] in values for key, values in choices.items())]


def in_order(rows: Sequence[Row], key: str | None) -> list[Row]:
    """The rows by a column, with a minus before its name from the largest down; rows without a value come last."""
    if key is None:
        return list(rows)
    name = key.removeprefix("-")
    require_key(name, COLUMNS, "--sort")
    known = sorted((row for row in rows if row[name] is not None), key=lambda row: row[name], reverse=key != name)
    return known + [row for row in rows if row[name] is None]
