"""Training one run: epochs, validation, early stopping, kept weights, and going on after an interruption."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastcifar.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.measure import environment
from fastcifar.models import build, count_parameters
from fastcifar.models.noise import Noise
from fastcifar.pipeline import Batch, Pipeline, open_pipeline
from fastcifar.runs import PRECISIONS, TIMING, RunDirectory, RunSpec

EVALUATION_BATCH = 512  # of protocols whose loss does not depend on it


@dataclass
class Learner:
    """A network and what trains it. ``epoch`` epochs are behind it."""

    spec: RunSpec
    model: nn.Module
    optimizer: torch.optim.Adam
    scaler: torch.amp.GradScaler
    device: torch.device
    epoch: int = 0

    @classmethod
    def new(cls, spec: RunSpec, classes: int, device: torch.device) -> "Learner":
        """With the spec's initial weights, on ``device``, channels_last."""
        model = build(spec.model, classes, spec.dropout, spec.seed).to(device).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), lr=spec.lr, weight_decay=spec.l2, fused=True)
        # bfloat16 has float32's range and needs no scaling
        scaler = torch.amp.GradScaler(device.type, enabled=spec.precision == "float16")
        return cls(spec, model, optimizer, scaler, device)

    def autocast(self) -> AbstractContextManager[None]:
        """Automatic mixed precision as the spec has it."""
        dtype = PRECISIONS[self.spec.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    def step(self, batch: Batch) -> Tensor:
        """One step of Adam; the batch's mean loss, on the device."""
        noise = Noise(self.spec.seed, self.epoch + 1, batch.ids)
        with self.autocast():
            logits = self.model(batch.images, noise)
        loss = cross_entropy(logits.float(), batch.labels)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return loss.detach()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next epoch depends on: tensors, and a note for JSON."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"adam.{key}.{name}"] = value
        return tensors, {"epoch": self.epoch, "scaler": self.scaler.state_dict()}

    def restore(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Take up what ``state`` gave."""
        self.model.load_state_dict({name: tensors[f"model.{name}"] for name in self.model.state_dict()})
        for name, parameter in self.model.named_parameters():
            moments = {key: tensors[f"adam.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            # as Adam makes them: in the parameter's own memory format
            self.optimizer.state[parameter] = {
                key: value if key == "step" else torch.empty_like(parameter).copy_(value)
                for key, value in moments.items()
            }
        self.scaler.load_state_dict(note["scaler"])
        self.epoch = note["epoch"]


def train(
    spec: RunSpec,
    dataset: Dataset,
    out: Path,
    device: torch.device,
    watch: Callable[[Mapping[str, Any]], None] = lambda line: None,
) -> dict[str, Any]:
    """Train a run, or go on with it, in ``RunDirectory.of(spec, out)``; returns its summary, at once if it is finished.

    watch is called with each epoch's line of metrics.jsonl, those of an earlier session too.
    Raises UsageError when the spec is of another dataset, FastcifarError when the directory is in use or damaged.
    """
    if spec.dataset != dataset.sha256:
        raise UsageError(f"the run is of dataset {spec.dataset[:12]}, but {dataset.path} is {dataset.sha256[:12]}")
    directory = RunDirectory.of(spec, out)
    with directory.locked():
        summary = directory.summary()
        if summary is None:
            context = {"dataset": {"name": dataset.name, "sha256": dataset.sha256}, "environment": environment()}
            directory.start(spec, {**context, "device": str(device)})
            summary = _train(spec, dataset, directory, device, watch)
            directory.finish(summary)
        return summary


def _train(
    spec: RunSpec,
    dataset: Dataset,
    directory: RunDirectory,
    device: torch.device,
    watch: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    protocol = PROTOCOLS[spec.protocol]
    learner = Learner.new(spec, len(dataset.classes), device)
    checkpoint = directory.load_tensors("checkpoint", device)
    if checkpoint:
        learner.restore(*checkpoint)
    lines = directory.keep_metrics(learner.epoch)
    for line in lines:
        watch(line)
    training, validation = open_pipelines(spec, dataset, device)
    with training, validation:
        while not _over(spec, lines):
            line = _epoch(learner, training, validation, protocol.batch_mean_loss)
            lines.append(line)
            # in this order, a kill between any two leaves what the next session puts right
            if line["val_accuracy"] is not None and protocol.keeps(_accuracies(lines)):
                directory.save_tensors(
                    "model", learner.model.state_dict(), {"epoch": learner.epoch, "model": spec.model}
                )
            directory.append_metrics(line)
            directory.save_tensors("checkpoint", *learner.state())
            watch(line)
    return _summary(spec, lines, count_parameters(learner.model))


def open_pipelines(spec: RunSpec, dataset: Dataset, device: torch.device) -> tuple[Pipeline, Pipeline]:
    """The training and the validation batches of a run, as its protocol has them."""
    protocol = PROTOCOLS[spec.protocol]
    augment = protocol.recipe(spec.recipe)
    shared = {
        "seed": spec.seed,
        "device": device,
        "dtype": PRECISIONS[spec.precision],
        "split_seed": spec.seed if protocol.split_by_seed else None,
    }
    training = open_pipeline(
        spec.pipeline, dataset, split="training", augment=augment, batch_size=spec.batch_size, **shared
    )
    validation = open_pipeline(
        spec.pipeline,
        dataset,
        split="validation",
        augment=augment if protocol.augment_validation else augment.still(),
        batch_size=spec.batch_size if protocol.batch_mean_loss else EVALUATION_BATCH,
        **shared,
    )
    return training, validation


def _epoch(learner: Learner, training: Pipeline, validation: Pipeline, batch_means: bool) -> dict[str, Any]:
    """One epoch of training and its validation: a line of metrics.jsonl."""
    epoch = learner.epoch + 1
    started, waited, samples = perf_counter(), Stopwatch(), 0
    losses: list[Tensor] = []
    weights: list[int] = []
    for batch in waited.over(training.epoch(epoch)):
        losses.append(learner.step(batch))
        weights.append(len(batch.labels))
        samples += len(batch.labels)
    train_loss = _mean(losses, weights, batch_means)
    trained = perf_counter() - started
    val_loss, val_accuracy = evaluate(learner, validation.epoch(epoch), batch_means)
    learner.epoch = epoch
    return {
        "epoch": epoch,
        "train_loss": _number(train_loss),
        "val_loss": _number(val_loss),
        "val_accuracy": val_accuracy if math.isfinite(val_loss) else None,
        "seconds": perf_counter() - started,
        "images_per_s": samples / trained,
        "stall": waited.seconds / trained,
    }


@torch.inference_mode()
def evaluate(learner: Learner, batches: Iterator[Batch], batch_means: bool = False) -> tuple[float, float]:
    """Mean loss and accuracy in [0, 1] over batches; batch_means: the loss as the mean of the batches' means."""
    losses: list[Tensor] = []
    weights: list[int] = []
    right = torch.zeros((), dtype=torch.int64, device=learner.device)
    for batch in batches:
        with learner.autocast():
            logits = learner.model(batch.images).float()
        losses.append(cross_entropy(logits, batch.labels))
        weights.append(len(batch.labels))
        right += (logits.argmax(1) == batch.labels).sum()
    return _mean(losses, weights, batch_means), int(right) / sum(weights)


def _mean(losses: list[Tensor], weights: list[int], batch_means: bool) -> float:
    """In float64; the one point of an epoch where the host waits for the device."""
    values = torch.stack(losses).double().cpu()
    by = torch.ones(len(weights)) if batch_means else torch.tensor(weights)
    return float((values * by).sum() / by.sum())


class Stopwatch:
    """Counts the seconds that a loop waits for its next item: the data stall."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches, timed."""
        started = perf_counter()
        for batch in batches:
            self.seconds += perf_counter() - started
            yield batch
            started = perf_counter()
        self.seconds += perf_counter() - started


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN


def _accuracies(lines: list[dict[str, Any]]) -> list[float]:
    return [line["val_accuracy"] for line in lines]


def _diverged(lines: list[dict[str, Any]]) -> bool:
    return bool(lines) and (lines[-1]["train_loss"] is None or lines[-1]["val_loss"] is None)


def _over(spec: RunSpec, lines: list[dict[str, Any]]) -> bool:
    return _diverged(lines) or len(lines) >= spec.epochs or PROTOCOLS[spec.protocol].stops(_accuracies(lines))


def _summary(spec: RunSpec, lines: list[dict[str, Any]], parameters: int) -> dict[str, Any]:
    """status: finished or diverged; val_accuracy and val_loss are those of the kept epoch."""
    protocol = PROTOCOLS[spec.protocol]
    finite = lines[:-1] if _diverged(lines) else lines
    accuracies = _accuracies(finite)
    kept = max((n for n in range(1, len(finite) + 1) if protocol.keeps(accuracies[:n])), default=None)
    return {
        "status": "diverged" if _diverged(lines) else "finished",
        "epochs": len(lines),
        "kept_epoch": kept,
        "val_accuracy": finite[kept - 1]["val_accuracy"] if kept else None,
        "val_loss": finite[kept - 1]["val_loss"] if kept else None,
        "parameters": parameters,
        "seconds": sum(line["seconds"] for line in lines),
        **{key: statistics.median(line[key] for line in lines) for key in TIMING if key != "seconds"},
    }
