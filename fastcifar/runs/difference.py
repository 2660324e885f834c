"""Two runs side by side: what of their configuration and their results differs, and from which epoch on."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from fastcifar.errors import UsageError
from fastcifar.runs.directory import TIMING, RunDirectory, find_runs
from fastcifar.runs.overview import text
from fastcifar.runs.record import RunRecord
from fastcifar.runs.rows import COLUMNS, row_of

RESULTS = ("status", "epochs", "kept_epoch", "val_accuracy", "val_loss", "seconds", "images_per_s")
SHOWN = 5  # of the runs that a text may mean


@dataclass(frozen=True)
class Difference:
    """Of two runs, A and B."""

    names: tuple[str, str]
    configuration: dict[str, tuple[Any, Any]]
    """where they differ: fields of the spec, dataset, environment, device and mode; None where a run has no such"""
    results: dict[str, tuple[Any, Any]]
    epochs: tuple[int, int]
    """lines of metrics"""
    first: int | None
    """the first epoch, of those that both have, whose metrics differ, timings apart"""
    metrics: dict[str, tuple[Any, Any]]
    """what differs there"""

    @classmethod
    def of(cls, a: RunDirectory, b: RunDirectory) -> "Difference":
        """Raises FastcifarError for a run that is damaged."""
        ours, theirs = RunRecord.read(a), RunRecord.read(b)
        rows, facts = (row_of(ours), row_of(theirs)), (_facts(ours), _facts(theirs))
        fields = [key for key in COLUMNS if key not in ("run_id", "error", *RESULTS)]
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
        """For JSON."""
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

    def tables(self) -> list[Table]:
        """For the terminal."""
        configuration = Table("what differs", "A", "B")
        for key, (a, b) in self.configuration.items():
            configuration.add_row(*(escape(shown) for shown in (key, _readable(key, a), _readable(key, b))))
        results = Table("result")
        for name in ("A", "B", "B - A"):
            results.add_column(name, justify="right")
        for key, (a, b) in self.results.items():
            change = subtract(a, b)
            results.add_row(
                key,
                text(key, a),
                text(key, b),
                "" if change is None else ("+" if change > 0 else "") + text(key, change),
            )
        return [configuration, results] if self.configuration else [results]

    def sentences(self) -> list[str]:
        """What the tables do not say."""
        said = [] if self.configuration else ["configuration and environment are the same"]
        shorter, longer = sorted(self.epochs)
        if self.first is not None:
            values = "; ".join(f"{key} {a} and {b}" for key, (a, b) in self.metrics.items())
            said.append(f"their metrics first differ in epoch {self.first}: {values}")
        elif shorter == longer:
            said.append(f"their metrics are identical, timings apart, in all {longer} epochs")
        else:
            name = "AB"[self.epochs[1] > self.epochs[0]]
            said.append(
                f"their metrics are identical, timings apart, in the {shorter} epochs that both have; "
                f"{name} goes on to epoch {longer}"
            )
        return said


def named(asked: str, out: Path) -> RunDirectory:
    """The run that a text means: a run directory's path, a run's id, or a beginning or else a part of one id only.

    Raises UsageError where it is none or several.
    """
    if (Path(asked) / "run.json").is_file():
        return RunDirectory(Path(asked).resolve())
    runs = find_runs(out)
    for fits in (str.__eq__, str.startswith, str.__contains__):
        matching = [run for run in runs if fits(run.path.name, asked)]
        if len(matching) == 1:
            return matching[0]
        if matching:
            some = ", ".join(run.path.name for run in matching[:SHOWN]) + (", ..." if len(matching) > SHOWN else "")
            raise UsageError(f"--diff {asked}: {len(matching)} runs are called so: {some}; say more of the id")
    near = difflib.get_close_matches(asked, [run.path.name for run in runs])
    hint = f"did you mean {' or '.join(near)}?" if near else f"fastcifar runs --out {out} shows their ids"
    raise UsageError(f"--diff {asked}: there is no such run below {out}; {hint}")


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys whose values are not the same, in A's order and then B's."""
    return {key: (a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key)}


def subtract(a: Any, b: Any) -> Any:
    """B - A, of numbers; else None."""
    return b - a if isinstance(a, int | float) and isinstance(b, int | float) else None


def _facts(record: RunRecord) -> dict[str, Any]:
    """What run.json says beside the spec, flat: environment.versions.torch."""
    begun = {key: value for key, value in record.begun.items() if key != "spec"}
    return {key: value for key, value in _flat(begun).items() if key != "dataset.sha256"}  # which the spec has


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _untimed(line: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in TIMING}


def _readable(key: str, value: Any) -> str:
    return json.dumps(value) if isinstance(value, list) else text(key, value)
