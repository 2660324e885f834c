"""Where a run is kept: the files of its directory, written whole or not at all. Nothing here is ever unpickled."""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fastcifar.errors import FastcifarError
from fastcifar.runs.spec import RunSpec

TIMING = ("seconds", "images_per_s", "stall", "peak_share", "peak_flops")
"""the keys of metrics.jsonl and summary.json that are measured, so differ from one time to the next; the last two are
of pretrained networks"""


def _flock(file: TextIO, kind: int) -> bool:
    """Take the lock on an open file, until it is closed; returns whether nobody else had it."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class RunDirectory:
    """``<out>/exp<N>/<run-id>/``: run.json, metrics.jsonl, checkpoint.safetensors, model.safetensors, summary.json."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, spec: RunSpec, out: Path) -> "RunDirectory":
        """The directory of a spec under ``out``, whether it exists or not."""
        return cls(out / f"exp{spec.experiment}" / spec.run_id)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the directory and keep other processes from training in it. Raises FastcifarError if one does."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "w") as lock:
            for _ in range(5):  # `busy` holds it for microseconds, a trainer for long
                if _flock(lock, fcntl.LOCK_EX):
                    break
                time.sleep(0.02)
            else:
                raise FastcifarError(f"another process is training {self.path}; wait for it or stop it")
            yield

    def busy(self) -> bool:
        """Whether somebody, this process too, is training in it. Makes no files."""
        try:
            with open(self.path / "lock") as lock:
                return not _flock(lock, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    def start(self, spec: RunSpec, context: Mapping[str, Any]) -> None:
        """Write run.json: the spec and the context (dataset, environment) that its first epoch runs in."""
        if not (self.path / "run.json").exists():
            self._write("run.json", json.dumps({"spec": asdict(spec), **context}, indent=1).encode())

    def begun(self) -> dict[str, Any]:
        """What `start` wrote, or nothing for a run that was never begun. Raises FastcifarError for a damaged file."""
        try:
            return self._parsed("run.json", (self.path / "run.json").read_bytes())
        except FileNotFoundError:
            return {}

    def metrics(self) -> list[dict[str, Any]]:
        """The epochs so far; a line that an interruption cut short is not one.

        Raises FastcifarError where something else damaged the file.
        """
        try:
            lines = (self.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [self._parsed("metrics.jsonl", line) for line in lines if line.endswith(b"\n")]

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add an epoch, on the disk before this returns."""
        with self._writing("metrics.jsonl"), open(self.path / "metrics.jsonl", "ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def keep_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """Drop what an interruption left behind the first ``epochs`` lines; returns those.

        Raises FastcifarError when there are fewer: the checkpoint is never ahead of them.
        """
        kept = self.metrics()[:epochs]
        if len(kept) < epochs:
            raise FastcifarError(
                f"{self.path / 'metrics.jsonl'} has {len(kept)} of the {epochs} epochs that checkpoint.safetensors has "
                f"behind it; delete {self.path} to train it anew"
            )
        self._write("metrics.jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in kept))
        return kept

    def summary(self) -> dict[str, Any] | None:
        """The result of a finished run, else None."""
        try:
            return self._parsed("summary.json", (self.path / "summary.json").read_bytes())
        except FileNotFoundError:
            return None

    def failure(self) -> str | None:
        """Why a grid gave the run up, as its failure.json says; None where it has not."""
        try:
            return str(self._parsed("failure.json", (self.path / "failure.json").read_bytes()).get("error"))
        except FileNotFoundError:
            return None

    def fail(self, error: str) -> None:
        """Write failure.json: the run was given up, and why; what it has so far stays."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._write("failure.json", json.dumps({"error": error, "when": time.time()}).encode())

    def retry(self) -> None:
        """Take a failure back, as the run is about to be trained again."""
        (self.path / "failure.json").unlink(missing_ok=True)

    def receive(self, contents: Mapping[str, bytes]) -> None:
        """Write files that were sent from elsewhere; the summary last, as it makes the run finished."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in sorted(contents, key=lambda name: name == "summary.json"):
            self._write(Path(name).name, contents[name])
        if "summary.json" in contents:
            (self.path / "checkpoint.safetensors").unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """What is there of the run, without what is only for this machine: locks, and files that are being written."""
        return sorted(file for file in self.path.glob("[!.]*") if file.is_file() and file.name != "lock")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, which makes the run finished, and drop the checkpoint."""
        self._write("summary.json", json.dumps(summary, indent=1).encode())
        (self.path / "checkpoint.safetensors").unlink(missing_ok=True)

    def save_tensors(self, name: str, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Write ``name``.safetensors with a JSON note in its header: wholly or not at all."""
        contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        self._write(f"{name}.safetensors", save(contiguous, metadata={"note": json.dumps(note)}))

    def load_tensors(self, name: str, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What save_tensors wrote, or None. Raises FastcifarError for a file that is damaged."""
        file = self.path / f"{name}.safetensors"
        if not file.exists():
            return None
        try:
            with safe_open(file, framework="pt", device=str(device)) as opened:
                note = json.loads(opened.metadata()["note"])
                return {key: opened.get_tensor(key) for key in opened.keys()}, note  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise FastcifarError(f"{file} is damaged ({error}); delete {self.path} to train it anew") from error

    def _parsed(self, name: str, content: bytes) -> dict[str, Any]:
        try:
            parsed: dict[str, Any] = json.loads(content)
            if not isinstance(parsed, dict):
                raise ValueError(f"it holds {json.dumps(parsed)[:40]}")
        except ValueError as error:
            raise FastcifarError(
                f"{self.path / name} is damaged ({error}); delete {self.path} to train it anew"
            ) from error
        return parsed

    def _write(self, name: str, content: bytes) -> None:
        temporary = self.path / f".{name}.tmp"
        with self._writing(name):
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path / name)

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Name the file in the error of a full disk, which names none."""
        try:
            yield
        except OSError as error:
            raise FastcifarError(
                f"cannot write {self.path / name} ({error.strerror}); once it can be, the same command goes on from "
                "the last whole epoch"
            ) from error


def find_runs(out: Path) -> list[RunDirectory]:
    """Every run directory below ``out``, by name."""
    return [RunDirectory(file.parent) for file in sorted(out.glob("exp*/*/run.json"))]
