"""Runs as rows: what run directories say, read without training or believing anything; filtered and sorted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.outcome import standing
from fastcifar.runs.settings import parse_choices, require_key
from fastcifar.runs.spec import RunSpec

Row = dict[str, Any]

_SPEC: dict[str, type] = {field.name: field.type for field in fields(RunSpec)}  # type: ignore[misc]
_RESULTS: dict[str, type] = {
    "epochs": int,
    "kept_epoch": int,
    "val_accuracy": float,
    "val_loss": float,
    "images_per_s": float,
    "seconds": float,
}
_LATER = ("pipeline", "tune", "weights", "dataset")  # fields of the spec that few runs differ in
COLUMNS: dict[str, type] = {
    "run_id": str,
    **{name: kind for name, kind in _SPEC.items() if name not in ("epochs", *_LATER)},
    **_RESULTS,
    "status": str,
    "max_epochs": int,
    **{name: _SPEC[name] for name in _LATER},
    "error": str,
}
"""A row's keys, in order, with their types. epochs: behind the run so far; max_epochs: the spec's; status: finished,
diverged, unfinished, failed (error says why) or in work. Of a run that is not finished, the results are those so far.
What there is not is None."""


@dataclass(frozen=True)
class Found:
    """What lies below a folder of runs."""

    rows: list[Row]
    damaged: dict[Path, str]
    """run directories that cannot be read, with the reason, which names a file"""
    foreign: dict[Path, str]
    """folders that hold no run, with the reason"""


def read(out: Path) -> Found:
    """Every run below ``out``, by experiment and name. Raises UsageError where there is no such folder."""
    if not out.is_dir():
        raise UsageError(f"there is no folder {out}; fastcifar train makes it, or say with --out where runs are")
    found = Found([], {}, {})
    for path in _folders(out):
        if not (path / "run.json").exists():
            found.foreign[path] = _why_foreign(path)
            continue
        try:
            found.rows.append(row(RunDirectory(path)))
        except FastcifarError as error:
            found.damaged[path] = str(error)
        except OSError as error:
            found.damaged[path] = f"{error.filename or path} cannot be read ({error.strerror})"
    return found


def row(directory: RunDirectory) -> Row:
    """A run's row. Raises FastcifarError for a directory that is damaged or none of this version's, OSError for one
    that cannot be read.
    """
    spec = _spec(directory)
    busy = directory.busy()  # asked first: a run that ends meanwhile is then seen as finished
    summary, error = directory.summary(), None
    file = "metrics.jsonl" if summary is None else "summary.json"
    try:
        if summary is not None:
            status, results = str(summary["status"]), summary
        else:
            error = None if busy else directory.failure()
            status = "in work" if busy else "unfinished" if error is None else "failed"
            results = standing(PROTOCOLS[spec["protocol"]], directory.metrics())
        known = {name: None if results.get(name) is None else kind(results[name]) for name, kind in _RESULTS.items()}
    except (KeyError, TypeError, ValueError) as problem:
        raise _damaged(directory, file, problem) from problem
    values = {**spec, **known, "max_epochs": spec["epochs"], "run_id": directory.path.name}
    return {name: values.get(name) for name in COLUMNS} | {"status": status, "error": error}


def choose(rows: Sequence[Row], only: list[str]) -> list[Row]:
    """Those that have one of the values of each ``key=value,value``. Raises UsageError as `runs.parse_choices`."""
    choices = parse_choices(only, COLUMNS, "--only")
    return [row for row in rows if all(row[key] in values for key, values in choices.items())]


def in_order(rows: Sequence[Row], key: str | None) -> list[Row]:
    """By a column, with a minus before its name from the largest down; rows without a value last either way."""
    if key is None:
        return list(rows)
    name = key.removeprefix("-")
    require_key(name, COLUMNS, "--sort")
    known = sorted((row for row in rows if row[name] is not None), key=lambda row: row[name], reverse=key != name)
    return known + [row for row in rows if row[name] is None]


def _folders(out: Path) -> Iterator[Path]:
    """Where runs should be, and the folders beside them that can hold none."""
    for path in sorted(path for path in out.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if path.name.removeprefix("exp").isdecimal() and path.name.startswith("exp"):
            yield from sorted(run for run in path.iterdir() if run.is_dir() and not run.name.startswith("."))
        else:
            yield path


def _why_foreign(path: Path) -> str:
    try:
        given_up = RunDirectory(path).failure()
    except (FastcifarError, OSError):
        given_up = None
    return f"{path} is no run: it has no run.json" + (f", since it failed before ({given_up})" if given_up else "")


def _spec(directory: RunDirectory) -> dict[str, Any]:
    """The fields of a run's RunSpec, typed. A RunSpec proper would import torchvision to check some of them."""
    stated: Mapping[str, Any] = directory.begun().get("spec", {})
    try:
        values = {
            field.name: _SPEC[field.name](stated[field.name] if field.default is MISSING else
                                          stated.get(field.name, field.default))
            for field in fields(RunSpec)
        }  # fmt: skip
        PROTOCOLS[values["protocol"]]
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise _damaged(directory, "run.json", problem) from problem
    return values


def _damaged(directory: RunDirectory, name: str, problem: Exception) -> FastcifarError:
    return FastcifarError(
        f"{directory.path / name} does not say what this version knows ({problem!r}); delete {directory.path} to train "
        "it anew"
    )
