"""Runs as rows of a table: the columns, and functions that select and sort rows."""

from collections.abc import Sequence
from typing import Any

from fastcifar.runs.record import RESULTS, SPEC, RunRecord
from fastcifar.runs.settings import nearest_value, parse_choices, require_key

Row = dict[str, Any]

# the fields of the spec in which few runs differ
_LATER = ("pipeline", "tune", "weights", "optimizer", "schedule", "smoothing", "code", "dataset")
COLUMNS: dict[str, type] = {
    "run_id": str,
    **{name: kind for name, kind in SPEC.items() if name not in ("epochs", *_LATER)},
    **RESULTS,
    "status": str,
    "max_epochs": int,
    **{name: SPEC[name] for name in _LATER},
    "dataset_name": str,
    "checked": str,
    "error": str,
}
"""The keys of a row, in order, with their types.

epochs: the run's epochs so far. max_epochs: the epochs of the spec. The results of a run that has not ended are the
results so far. dataset: its SHA-256. checked: see `RunRecord.checked`. A missing value is None.
"""


def row_of(record: RunRecord) -> Row:
    """Return the row of a run."""
    values = {**record.spec, **record.results, "max_epochs": record.spec["epochs"], "run_id": record.run_id}
    values |= {name: getattr(record, name) for name in ("status", "error", "checked")}
    values["dataset_name"] = _dataset_name(record)
    return {name: values.get(name) for name in COLUMNS}


def _dataset_name(record: RunRecord) -> str | None:
    """Return the name of the run's dataset; None where run.json has none."""
    dataset = record.begun.get("dataset")
    name = dataset.get("name") if isinstance(dataset, dict) else None
    return name if isinstance(name, str) else None


def choose_rows(rows: Sequence[Row], only: list[str]) -> list[Row]:
    """Return the rows that match every ``key=value,value`` of ``only``.

    A row matches when it has one of the values. Raises UsageError as `parse_choices` does.
    """
    choices = parse_choices(only, COLUMNS, "--only")
    return [row for row in rows if all(row[key] in values for key, values in choices.items())]


def absent_values(rows: Sequence[Row], only: list[str]) -> list[str]:
    """Return a sentence for each value of ``only`` that no row has, with the nearest value that exists."""
    return [
        f"no run has --only {key}={value}; {nearest_value(value, {row[key] for row in rows})}"
        for key, values in parse_choices(only, COLUMNS, "--only").items()
        for value in values
        if all(row[key] != value for row in rows)
    ]


def in_order(rows: Sequence[Row], key: str | None) -> list[Row]:
    """Return the rows sorted by a column.

    key: the name of the column, with a minus before it for descending order; None keeps the order. Rows without a value
    come last. Raises UsageError for an unknown column.
    """
    if key is None:
        return list(rows)
    name = key.removeprefix("-")
    require_key(name, COLUMNS, "--sort")
    known = sorted((row for row in rows if row[name] is not None), key=lambda row: row[name], reverse=key != name)
    return known + [row for row in rows if row[name] is None]
