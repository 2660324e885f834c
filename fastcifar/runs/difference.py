"""Two runs side by side: the differences of their configurations, results and metrics."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcifar.errors import UsageError
from fastcifar.runs.directory import TIMING, RunDirectory, find_runs
from fastcifar.runs.overview import text
from fastcifar.runs.record import RunRecord
from fastcifar.runs.rows import COLUMNS, row_of
from fastcifar.show.columns import Column, Fitted
from fastcifar.system.paths import path_of

RESULTS = ("status", "epochs", "kept_epoch", "val_accuracy", "val_loss", "seconds", "images_per_s")
SHOWN = 5  # run ids that the error for an ambiguous name lists


@dataclass(frozen=True)
class Difference:
    """The differences between two runs, A and B. Each pair holds the value of A and the value of B."""

    names: tuple[str, str]
    """The run ids."""
    configuration: dict[str, tuple[Any, Any]]
    """The fields of the spec, dataset, environment, device and mode that differ. None: the run has no such field."""
    results: dict[str, tuple[Any, Any]]
    """The values of RESULTS."""
    epochs: tuple[int, int]
    """The number of epochs with metrics."""
    first: int | None
    """The first epoch whose metrics differ, without the timings. None: the epochs that both runs have are identical."""
    metrics: dict[str, tuple[Any, Any]]
    """The metrics that differ in that epoch."""

    @classmethod
    def of(cls, a: RunDirectory, b: RunDirectory) -> "Difference":
        """Return the differences between two runs. Raises FastcifarError for a damaged run."""
        ours, theirs = RunRecord.read(a), RunRecord.read(b)
        rows, facts = (row_of(ours), row_of(theirs)), (_facts(ours), _facts(theirs))
        fields = [key for key in COLUMNS if key not in ("run_id", "error", "dataset_name", *RESULTS)]
        configuration = {key: (rows[0][key], rows[1][key]) for key in fields if rows[0][key] != rows[1][key]}
        configuration |= differing(*facts)
        lines = ours.lines, theirs.lines
        first, metrics = None, {}
        for epoch, (line, other) in enumerate(zip(*lines, strict=False), 1):  # one run may have more epochs
            if metrics := differing(_untimed(line), _untimed(other)):
                first = epoch
                break
        results = {key: (rows[0][key], rows[1][key]) for key in RESULTS}
        names, epochs = (ours.run_id, theirs.run_id), (len(lines[0]), len(lines[1]))
        return cls(names, configuration, results, epochs, first, metrics)

    def plain(self) -> dict[str, Any]:
        """Return the differences as values that JSON can hold."""
        return {
            "runs": self.names,
            "configuration": self.configuration,
            "results": {
                key: {"a": a, "b": b, "difference": subtract(a, b)} for key, (a, b) in self.results.items()
            },
            "metrics": {
                "epochs": self.epochs,
                "identical": self.first is None and self.epochs[0] == self.epochs[1],
                "first_different_epoch": self.first,
                "differ": self.metrics,
            },
        }  # fmt: skip

    def tables(self) -> list[Fitted]:
        """Return the differences as tables for the terminal."""
        pairs = [(key, _readable(key, a), _readable(key, b)) for key, (a, b) in self.configuration.items()]
        headers = ("what differs", "A", "B")
        configuration = [
            Column(header, [pair[n] for pair in pairs], number=False) for n, header in enumerate(headers) if pairs
        ]
        changes = {key: subtract(a, b) for key, (a, b) in self.results.items()}
        results = [
            Column("result", list(self.results), number=False),
            *(Column("AB"[n], [text(key, pair[n]) for key, pair in self.results.items()]) for n in range(2)),
            Column("B - A", [_signed(key, change) for key, change in changes.items()]),
        ]
        return [Fitted(columns) for columns in (configuration, results) if columns]

    def sentences(self) -> list[str]:
        """Return sentences about the differences that the tables do not show."""
        notes = [] if self.configuration else ["configuration and environment are the same"]
        shorter, longer = sorted(self.epochs)
        if self.first is not None:
            values = "; ".join(f"{key} {a} and {b}" for key, (a, b) in self.metrics.items())
            notes.append(f"the metrics first differ in epoch {self.first}: {values}")
        elif shorter == longer:
            notes.append(f"the metrics are identical in all {longer} epochs, except for timings")
        else:
            name = "AB"[self.epochs[1] > self.epochs[0]]
            notes.append(
                f"the metrics are identical in the {shorter} epochs that both runs have, except for timings; "
                f"{name} goes on to epoch {longer}"
            )
        return notes


def named(asked: str, out: Path) -> RunDirectory:
    """Return the run that a text names.

    asked: the path of a run directory, a run id, the first characters of exactly one id, or else a part of exactly one
    id. out: the folder of the runs. Raises UsageError where no run or several runs match.
    """
    path = path_of(asked)
    if (path / "run.json").is_file():
        return RunDirectory(path.resolve())
    runs = find_runs(out)
    for fits in (str.__eq__, str.startswith, str.__contains__):
        matching = [run for run in runs if fits(run.path.name, asked)]
        if len(matching) == 1:
            return matching[0]
        if matching:
            some = ", ".join(run.path.name for run in matching[:SHOWN]) + (", ..." if len(matching) > SHOWN else "")
            raise UsageError(f"--diff {asked}: {len(matching)} runs match: {some}; give more of the id")
    near = difflib.get_close_matches(asked, [run.path.name for run in runs])
    hint = f"did you mean {' or '.join(near)}?" if near else f"fastcifar runs --out {out} shows their ids"
    raise UsageError(f"--diff {asked}: there is no such run below {out}; {hint}")


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys whose values differ, with both values. Keys are in the order of ``a``, then of ``b``."""
    return {key: (a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key)}


def subtract(a: Any, b: Any) -> Any:
    """Return b - a for two numbers, else None."""
    return b - a if isinstance(a, int | float) and isinstance(b, int | float) else None


def _signed(key: str, change: Any) -> str:
    return "" if change is None else ("+" if change > 0 else "") + text(key, change)


def _facts(record: RunRecord) -> dict[str, Any]:
    """Return the entries of run.json without the spec, with flat keys like environment.versions.torch."""
    begun = {key: value for key, value in record.begun.items() if key != "spec"}
    return {key: value for key, value in _flat(begun).items() if key != "dataset.sha256"}  # a field of the spec, too


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _untimed(line: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in TIMING}


def _readable(key: str, value: Any) -> str:
    return json.dumps(value) if isinstance(value, list) else text(key, value)
