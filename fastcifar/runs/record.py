"""A run directory that is read once, for tables, the report and ``fastcifar runs``. Nothing in this module trains."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.failure import failure_of
from fastcifar.runs.outcome import Lines, diverged, standing
from fastcifar.runs.spec import RunSpec, spec_values
from fastcifar.system.temporary import sweep_once

SPEC: dict[str, type] = {field.name: field.type for field in fields(RunSpec)}  # type: ignore[misc]
"""The fields of a RunSpec, with their types."""
RESULTS: dict[str, type] = {
    "epochs": int, "kept_epoch": int, "val_accuracy": float, "val_loss": float, "images_per_s": float, "seconds": float,
}  # fmt: skip
"""The results of a run's epochs, with their types. A missing value is None."""
COMPARED = ("status", "epochs", "kept_epoch", "val_accuracy", "val_loss")
"""The results of summary.json that follow from metrics.jsonl."""
UNCHECKED = {
    "dataset not verified": "trained with --no-verify",
    "sealed later": "sealed later: what was changed before cannot be seen",
    "no": "unchecked: written before version 0.3, without seals",
}
"""The values of `RunRecord.checked` besides "yes", each with its meaning."""


@dataclass(frozen=True)
class RunRecord:
    """The content of a run directory."""

    directory: RunDirectory
    begun: Mapping[str, Any]
    """The content of run.json."""
    spec: Mapping[str, Any]
    """The typed fields of the RunSpec. A RunSpec object would import torchvision to check some of them."""
    summary: Mapping[str, Any] | None
    """The content of summary.json; None where the run has not ended."""
    status: str
    """finished, diverged, unfinished, failed, or in work."""
    error: str | None
    """Why the run failed; None for another status."""

    @classmethod
    def read(cls, directory: RunDirectory) -> "RunRecord":
        """Read a run directory.

        Raises FastcifarError for a directory that is damaged or of another version, OSError for an unreadable one.
        """
        begun = directory.begun()
        spec = spec_values(begun["spec"])
        busy = directory.busy()  # read before the summary, so that a run that ends meanwhile counts as finished
        summary, error = directory.summary(), None
        if summary is None:
            error = None if busy else failure_of(directory)
            status = "in work" if busy else "unfinished" if error is None else "failed"
        else:
            status = str(summary.get("status"))
        record = cls(directory, begun, spec, summary, status, error)
        if summary is None or directory.root is None:
            _ = record.lines  # raises now: no hash in a summary says whether they are whole
        return record

    @property
    def path(self) -> Path:
        return self.directory.path

    @property
    def run_id(self) -> str:
        return self.directory.path.name

    @property
    def checked(self) -> str:
        """Whether the files of the run have seals that agree: yes, or a key of UNCHECKED."""
        if self.directory.root is None:
            return "no"
        if "sealed_later" in self.begun:
            return "sealed later"
        return "dataset not verified" if self.begun.get("dataset", {}).get("verified") is False else "yes"

    @cached_property
    def lines(self) -> Lines:
        """The lines of metrics.jsonl, one for each epoch.

        Raises FastcifarError where the file is damaged, or contradicts summary.json.
        """
        lines = self.directory.metrics()
        if self.summary is not None:
            found = standing(PROTOCOLS[self.spec["protocol"]], lines)
            found["status"] = "diverged" if diverged(lines) else "finished"
            wrong = [key for key in COMPARED if self.summary[key] != found[key]]
            if wrong:
                raise self.directory.damaged(
                    "summary.json", f"{wrong[0]} is {self.summary[wrong[0]]}, but {found[wrong[0]]} in metrics.jsonl"
                )
        return lines

    @cached_property
    def results(self) -> dict[str, Any]:
        """The values of RESULTS: from the summary of a run that has ended, else from the epochs so far."""
        if self.summary is None:
            values = standing(PROTOCOLS[self.spec["protocol"]], self.lines)
        else:
            values = dict(self.summary)
        return {name: None if values.get(name) is None else kind(values[name]) for name, kind in RESULTS.items()}


@dataclass(frozen=True)
class Found:
    """The content of a folder of runs."""

    records: list[RunRecord]
    damaged: dict[Path, str]
    """The run directories that cannot be read, each with the reason, which names a file."""
    foreign: dict[Path, str]
    """The folders that hold no run, each with the reason."""


def require_folder(out: Path) -> None:
    """Raise UsageError where ``out`` is no folder."""
    if not out.is_dir():
        raise UsageError(f"there is no folder {out}; fastcifar train makes it, or give another folder with --out")


def read_runs(out: Path) -> Found:
    """Read all runs below ``out``, sorted by experiment and name. Raises UsageError where ``out`` is no folder."""
    require_folder(out)
    found = Found([], {}, {})
    for path in _folders(out):
        if not (path / "run.json").exists():
            found.foreign[path] = _why_foreign(path)
            continue
        try:
            record = RunRecord.read(RunDirectory(path))
            _require_place(record)
            found.records.append(record)
        except FastcifarError as error:
            found.damaged[path] = str(error)
        except OSError as error:
            found.damaged[path] = f"{error.filename or path} cannot be read ({error.strerror})"
    return found


def _require_place(record: RunRecord) -> None:
    """Raise FastcifarError for a run in the folder of another experiment."""
    number, folder = record.spec["experiment"], record.path.parent
    if folder.name != f"exp{number}":
        raise FastcifarError(f"{record.path} is a run of experiment {number}; move it to {folder.parent}/exp{number}")


def _folders(out: Path) -> Iterator[Path]:
    """Yield the folders that should be run directories, and the other folders beside them."""
    for path in sorted(path for path in out.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if path.name.removeprefix("exp").isdecimal() and path.name.startswith("exp"):
            sweep_once(path)  # moves back what a killed process had moved aside
            yield from sorted(run for run in path.iterdir() if run.is_dir() and not run.name.startswith("."))
        else:
            yield path


def _why_foreign(path: Path) -> str:
    try:
        given_up = failure_of(RunDirectory(path))
    except (FastcifarError, OSError):
        given_up = None
    if (path / "metrics.jsonl").exists() or (path / "summary.json").exists():
        return f"{path} is a run whose run.json is lost; delete {path} to train it anew"
    return f"{path} is no run: it has no run.json" + (f", as it failed at its start ({given_up})" if given_up else "")
