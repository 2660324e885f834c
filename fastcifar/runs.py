"""What a run is (`RunSpec`) and where it is kept (`RunDirectory`). Nothing here is ever unpickled."""

import difflib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fastcifar.augment import IMAGE_SIZE
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.models import MODELS, MOST_IMAGES, check
from fastcifar.philox import key_of

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TIMING = ("seconds", "images_per_s", "stall", "peak_share", "peak_flops")
"""the keys of metrics.jsonl and summary.json that are measured, so differ from one time to the next; the last two are
of pretrained networks"""


@dataclass(frozen=True)
class RunSpec:
    """Everything a run's numbers depend on. Raises UsageError for a value out of range."""

    experiment: int
    protocol: str
    model: str
    batch_size: int
    lr: float
    l2: float
    """Adam's coupled weight decay"""
    dropout: float
    recipe: str
    seed: int
    dataset: str
    """the dataset's SHA-256"""
    epochs: int = 100
    """at most so many; early stopping may end a run before"""
    precision: str = "bfloat16"
    """of activations and of the pixels; weights and Adam's moments are float32"""
    pipeline: str = "resident"
    tune: str = "full"
    """how a pretrained network is fine-tuned: models.tuning.WAYS"""
    weights: str = "none"
    """what it begins with: published.Weights' identity, or none"""

    def __post_init__(self) -> None:
        for name, low, high in (("lr", 1e-9, 10_000), ("l2", 0, 10), ("dropout", 0, 0.99), ("epochs", 1, 100_000),
                                ("batch_size", 1, MOST_IMAGES), ("seed", 0, (1 << 64) - 1)):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name} {getattr(self, name)} is outside [{low:g}, {high:g}]")
        for name, known in (("precision", PRECISIONS), ("protocol", PROTOCOLS)):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)!r} does not exist; there are {', '.join(known)}")
        check(self.model, self.dropout)
        side = PROTOCOLS[self.protocol].recipe(self.recipe).out_size
        if self.model not in MODELS:
            from fastcifar.models import tuning  # torchvision's models take a second to import

            tuning.check(self.tune)
            return
        if (self.tune, self.weights) != ("full", "none"):
            raise UsageError(f"{self.model} is trained as a whole and from scratch; tune and weights are for others")
        if side != IMAGE_SIZE:
            raise UsageError(
                f"recipe {self.recipe!r} makes images of {side} x {side} pixels, but {self.model} takes "
                f"{IMAGE_SIZE} x {IMAGE_SIZE}; choose another recipe, as fastcifar list recipes shows them"
            )

    @cached_property
    def label(self) -> str:
        """The configuration, readable, seed apart."""
        tuned = "" if self.tune == "full" else f"-{self.tune}"
        if self.model not in MODELS and self.weights == "none":
            tuned += "-scratch"
        return (
            f"{self.model.replace(':', '-').replace('/', '-')}-{self.recipe}-b{self.batch_size}-lr{self.lr:g}"
            f"-l2_{self.l2:g}-d{self.dropout:g}{tuned}-{self.protocol}"
        )

    @cached_property
    def run_id(self) -> str:
        """The label, the seed and a hash of every field; equal specs have equal ones, an lr of 1 and of 1.0 too."""
        before, after = self._hashed
        digest = hashlib.sha256(f"{before}{int(self.seed)}{after}".encode()).hexdigest()
        return f"{self.label}-s{self.seed}-{digest[:8]}"

    def with_seed(self, seed: int) -> "RunSpec":
        """The same configuration with another seed, twenty times as fast as anew. Raises UsageError for a seed out of
        range.
        """
        key_of(seed)
        other = object.__new__(RunSpec)
        _ = self.label, self._hashed  # shared: neither depends on the seed
        other.__dict__.update({key: value for key, value in self.__dict__.items() if key != "run_id"}, seed=seed)
        return other

    @cached_property
    def _hashed(self) -> tuple[str, str]:
        """What the run-id hashes, before and after the seed: JSON of the fields, typed and sorted by name."""
        values = {field.name: field.type(getattr(self, field.name)) for field in fields(self)}  # type: ignore[operator]
        for field in fields(self):  # fields that came later: ids of runs from before stay what they were
            if field.name in ("tune", "weights") and values[field.name] == field.default:
                del values[field.name]
        before, _, after = json.dumps(values | {"seed": None}, sort_keys=True).partition('"seed": null')
        return f'{before}"seed": ', after


def parse_overrides(pairs: list[str], settable: Mapping[str, type], option: str = "--set") -> dict[str, Any]:
    """``key=value`` strings as typed values. Raises UsageError for an unknown key or a bad value."""
    return {key: _typed(key, text, settable, option) for key, text in _split(pairs, settable, option)}


def parse_choices(pairs: list[str], known: Mapping[str, type], option: str) -> dict[str, list[Any]]:
    """``key=value,value`` strings as typed values, any of which will do; those of a key named twice together.

    Raises as `parse_overrides`.
    """
    chosen: dict[str, list[Any]] = {}
    for key, texts in _split(pairs, known, option):
        chosen.setdefault(key, []).extend(_typed(key, text.strip(), known, option) for text in texts.split(","))
    return chosen


def require_key(key: str, known: Iterable[str], option: str) -> None:
    """Raise UsageError, with the keys that are most like it, for one that is not known."""
    if key not in known:
        near = difflib.get_close_matches(key, known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
        raise UsageError(f"{option} {key}: no such {'setting' if option == '--set' else 'field'}; {hint}")


def _split(pairs: list[str], known: Iterable[str], option: str) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"{option} {pair!r} is not of the form key=value, as in {option} lr=1e-4")
        require_key(key, known, option)
        yield key, text


def _typed(key: str, text: str, known: Mapping[str, type], option: str) -> Any:
    try:
        return known[key](text)
    except ValueError as error:
        raise UsageError(f"{option} {key}={text}: {text!r} is not of type {known[key].__name__}") from error


SETTABLE: dict[str, type] = {
    field.name: field.type  # type: ignore[misc]
    for field in fields(RunSpec)
    if field.name in ("batch_size", "lr", "l2", "dropout", "recipe", "epochs", "precision", "tune")
}
"""What --set takes, with its type."""


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
