"""Where a run is kept: its directory, who may write to it, and the files that say how far the run is."""

import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from fastcifar.errors import FastcifarError
from fastcifar.runs.files import RunFiles
from fastcifar.runs.spec import RunSpec

TIMING = ("seconds", "images_per_s", "stall", "peak_share", "peak_flops")
"""the keys of metrics.jsonl and summary.json whose values are measured, so that they differ from one time to the next;
peak_share and peak_flops are written for pretrained networks only"""


class RunDirectory(RunFiles):
    """``<out>/exp<N>/<run-id>/``: run.json, metrics.jsonl, checkpoint.safetensors, model.safetensors, summary.json."""

    @classmethod
    def of(cls, spec: RunSpec, out: Path) -> "RunDirectory":
        """The directory of a spec under ``out``, whether it exists or not."""
        return cls(out / f"exp{spec.experiment}" / spec.run_id)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the directory and keep other processes from training in it. Raises FastcifarError if one does."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "w") as lock:
            for _ in range(5):  # `busy` holds the lock for microseconds, a trainer for long
                if _flock(lock, fcntl.LOCK_EX):
                    break
                time.sleep(0.02)
            else:
                raise FastcifarError(f"another process is training {self.path}; wait for it or stop it")
            yield

    def busy(self) -> bool:
        """Whether a process, this one too, is training in it. Makes no files."""
        try:
            with open(self.path / "lock") as lock:
                return not _flock(lock, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    def start(self, spec: RunSpec, context: Mapping[str, Any]) -> None:
        """Write run.json: the spec and the context (dataset, environment) that its first epoch runs in."""
        if not (self.path / "run.json").exists():
            self.write("run.json", json.dumps({"spec": asdict(spec), **context}, indent=1).encode())

    def begun(self) -> dict[str, Any]:
        """What `start` wrote, or nothing for a run that was never begun. Raises FastcifarError for a damaged file."""
        return self.parsed("run.json") or {}

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, one for each epoch so far. Raises FastcifarError where the file is damaged."""
        return self.parsed_lines("metrics.jsonl")

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add an epoch, on the disk before this returns."""
        self.append("metrics.jsonl", json.dumps(line).encode() + b"\n")

    def keep_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """Drop what an interruption left behind the first ``epochs`` lines; returns those lines.

        Raises FastcifarError when there are fewer: the checkpoint is never ahead of them.
        """
        kept = self.metrics()[:epochs]
        if len(kept) < epochs:
            raise FastcifarError(
                f"{self.path / 'metrics.jsonl'} has {len(kept)} of the {epochs} epochs that checkpoint.safetensors has "
                f"behind it; delete {self.path} to train it anew"
            )
        self.write("metrics.jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in kept))
        return kept

    def summary(self) -> dict[str, Any] | None:
        """The result of a finished run, else None. Raises FastcifarError for a damaged file."""
        return self.parsed("summary.json")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, which makes the run finished, and drop the checkpoint."""
        self.write("summary.json", json.dumps(summary, indent=1).encode())
        (self.path / "checkpoint.safetensors").unlink(missing_ok=True)


def find_runs(out: Path) -> list[RunDirectory]:
    """Every run directory below ``out``, by name."""
    return [RunDirectory(file.parent) for file in sorted(out.glob("exp*/*/run.json"))]


def _flock(file: TextIO, kind: int) -> bool:
    """Take the lock on an open file, until it is closed; returns whether nobody else had it."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
