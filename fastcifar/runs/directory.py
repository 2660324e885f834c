"""The directory of a run: its lock, and the files with the state and the results of the run."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.runs.files import RunFiles
from fastcifar.runs.spec import RunSpec
from fastcifar.system.locks import fcntl
from fastcifar.system.paths import path_of

RATES = ("images_per_s", "stall", "peak_share", "peak_flops")
TIMING = ("seconds", "time", *RATES)
"""The keys of metrics.jsonl and summary.json whose values are measured, so that they differ when a run is repeated. A
summary has the medians of RATES. peak_share and peak_flops are written for pretrained networks only."""


class RunDirectory(RunFiles):
    """The directory of a run, ``<out>/exp<N>/<run-id>/``.

    Its files are run.json, metrics.jsonl, checkpoint.safetensors, model.safetensors and summary.json.
    """

    @classmethod
    def of(cls, spec: RunSpec, out: Path) -> "RunDirectory":
        """Return the directory of a spec below ``out``. It need not exist."""
        return cls(path_of(out) / f"exp{spec.experiment}" / spec.run_id)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the directory, and lock it against training by other processes.

        Raises FastcifarError where another process holds the lock.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "w") as lock:
            for _ in range(5):  # `busy` holds the lock for microseconds, a training process for long
                if _flock(lock, fcntl.LOCK_EX):
                    break
                time.sleep(0.02)
            else:
                raise FastcifarError(f"another process is training {self.path}; wait for it or stop it")
            yield

    def busy(self) -> bool:
        """Return whether a process, including this one, trains in the directory. This writes no files."""
        try:
            with open(self.path / "lock") as lock:
                return not _flock(lock, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    def start(self, spec: RunSpec, context: Mapping[str, Any]) -> None:
        """Write run.json, unless it exists: the spec, and the context (dataset, environment) of the first epoch."""
        if not (self.path / "run.json").exists():
            self.write("run.json", json.dumps({"spec": asdict(spec), **context}, indent=1).encode())

    def begun(self) -> dict[str, Any]:
        """Return the content of run.json, empty where the run was never begun.

        Raises FastcifarError for a damaged file.
        """
        return self.parsed("run.json") or {}

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl, one for each epoch so far. Raises FastcifarError for a damaged file."""
        return self.parsed_lines("metrics.jsonl")

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Append the line of an epoch to metrics.jsonl. It is on the disk when this returns."""
        self.append("metrics.jsonl", json.dumps(line).encode() + b"\n")

    def keep_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """Keep only the first ``epochs`` lines of metrics.jsonl, and return them.

        An interruption may leave lines that are later than the checkpoint. The checkpoint is never later than the
        lines, so fewer lines raise FastcifarError.
        """
        kept = self.metrics()[:epochs]
        if len(kept) < epochs:
            raise FastcifarError(
                f"{self.path / 'metrics.jsonl'} has {len(kept)} of the {epochs} epochs that were trained before "
                f"checkpoint.safetensors was written; delete {self.path} to train it anew"
            )
        self.write("metrics.jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in kept))
        return kept

    def summary(self) -> dict[str, Any] | None:
        """Return the summary of a finished run, else None. Raises FastcifarError for a damaged file."""
        return self.parsed("summary.json")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, which marks the run as finished, and delete the checkpoint."""
        self.write("summary.json", json.dumps(summary, indent=1).encode())
        (self.path / "checkpoint.safetensors").unlink(missing_ok=True)


def find_runs(out: Path) -> list[RunDirectory]:
    """Return all run directories below ``out``, sorted by path."""
    return [RunDirectory(file.parent) for file in sorted(out.glob("exp*/*/run.json"))]


def require_runs(paths: Iterable[Path]) -> None:
    """Raise UsageError for a path that is no run directory, and FastcifarError where its run.json is damaged."""
    for path in paths:
        if not path.is_dir() or not RunDirectory(path).begun():
            raise UsageError(
                f"{path} is not a run directory, as it has no run.json; runs are called runs/exp<N>/<run-id>, and "
                "fastcifar list runs shows their ids"
            )


def _flock(file: TextIO, kind: int) -> bool:
    """Try to lock an open file until it is closed. kind: LOCK_EX or LOCK_SH. Returns whether this succeeded."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
