"""Training one run: epochs, validation, early stopping, kept weights, and going on after an interruption."""

import math
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from fastcifar.compilation import steps_of
from fastcifar.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.footprint import footprint, peak_flops
from fastcifar.learner import Learner, evaluate, mean_loss
from fastcifar.measure import environment
from fastcifar.models import MODELS, count_parameters
from fastcifar.models.pretrained import Pretrained
from fastcifar.pipeline import Pipeline, open_pipeline
from fastcifar.runs import PRECISIONS, TIMING, RunDirectory, RunSpec
from fastcifar.steps import Captured, Eager

EVALUATION_BATCH = 512  # of protocols whose loss does not depend on it


def train(
    spec: RunSpec,
    dataset: Dataset,
    out: Path,
    device: torch.device,
    watch: Callable[[Mapping[str, Any]], None] = lambda line: None,
    mode: str = "none",
    tensors: Mapping[str, Tensor] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train a run, or go on with it, in ``RunDirectory.of(spec, out)``; returns its summary, at once if it is finished.

    watch is called with each epoch's line of metrics.jsonl, those of an earlier session too. mode: one of
    `compilation.MODES`. tensors: the weights that a pretrained network begins with. say: told what people should know.
    Raises UsageError when the spec is of another dataset, FastcifarError when the directory is in use or damaged.
    """
    if spec.dataset != dataset.sha256:
        raise UsageError(f"the run is of dataset {spec.dataset[:12]}, but {dataset.path} is {dataset.sha256[:12]}")
    directory = RunDirectory.of(spec, out)
    with directory.locked():
        summary = directory.summary()
        if summary is None:
            training, validation = open_pipelines(spec, dataset, device)
            with training, validation:
                learner = Learner.new(spec, len(dataset.classes), device, tensors)
                learner.say = say
                context = {"dataset": {"name": dataset.name, "sha256": dataset.sha256}, "environment": environment()}
                directory.start(spec, {**context, "device": str(device), "mode": mode})
                try:
                    summary = _train(learner, training, validation, directory, watch, mode) | {"mode": mode}
                except torch.OutOfMemoryError as error:
                    raise FastcifarError(
                        f"{device} has no memory left for {spec.label}, though a step had fitted; where something else "
                        "takes it, stop that, and the same command goes on from the last whole epoch"
                    ) from error
            directory.finish(summary)
        return summary


def _train(
    learner: Learner,
    training: Pipeline,
    validation: Pipeline,
    directory: RunDirectory,
    watch: Callable[[Mapping[str, Any]], None],
    mode: str,
) -> dict[str, Any]:
    spec, protocol = learner.spec, PROTOCOLS[learner.spec.protocol]
    checkpoint = directory.load_tensors("checkpoint", learner.device)
    if checkpoint:
        learner.restore(*checkpoint)
    lines = directory.keep_metrics(learner.epoch)
    for line in lines:
        watch(line)
    on_cuda = learner.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(learner.device)
    steps, costs = steps_of(mode, learner, training), _costs(learner, training)
    while not _over(spec, lines):
        line = _epoch(learner, steps, validation, protocol.batch_mean_loss)
        if costs:
            line["peak_share"] = line["images_per_s"] * costs["flops_per_image"] / costs["peak_flops"]
        lines.append(line)
        # in this order, a kill between any two leaves what the next session puts right
        if not _diverged(lines) and protocol.keeps(_accuracies(lines)):
            directory.save_tensors("model", learner.model.state_dict(), {"epoch": learner.epoch, "model": spec.model})
        directory.append_metrics(line)
        directory.save_tensors("checkpoint", *learner.state())
        watch(line)
    return {
        **_summary(spec, lines, count_parameters(learner.model)),
        **costs,
        "peak_device_bytes": torch.cuda.max_memory_reserved(learner.device) if on_cuda else None,
    }


def _costs(learner: Learner, training: Pipeline) -> dict[str, Any]:
    """Of a pretrained network: what its steps take, and what the device does; in bytes and operations."""
    if not isinstance(learner.model, Pretrained):
        return {}
    batch = next(iter(training.epoch(learner.epoch + 1)))
    taken, peak = footprint(learner, batch), peak_flops(learner.device, PRECISIONS[learner.spec.precision])
    learner.say(
        f"{learner.spec.label}: activations of {min(learner.micro_batch, len(batch.ids))} images take "
        f"{taken.activation_bytes / 2**20:,.0f} MiB; an image takes {taken.flops / 1e9:.2f} GFLOP, of which "
        f"{learner.device} does {peak / 1e9:,.0f} a second in a product of matrices"
    )
    return {"activation_bytes": taken.activation_bytes, "flops_per_image": taken.flops, "peak_flops": peak}


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
        # a large network on large images takes no more than in training
        batch_size=EVALUATION_BATCH if spec.model in MODELS and not protocol.batch_mean_loss else spec.batch_size,
        **shared,
    )
    return training, validation


def _epoch(learner: Learner, steps: Eager | Captured, validation: Pipeline, batch_means: bool) -> dict[str, Any]:
    """One epoch of training and its validation: a line of metrics.jsonl."""
    epoch, started = learner.epoch + 1, perf_counter()
    trained = steps.epoch(epoch)
    train_loss = mean_loss(trained.losses, trained.sizes, batch_means)
    val_loss, val_accuracy = evaluate(learner, validation.epoch(epoch), batch_means)
    learner.epoch = epoch
    return {
        "epoch": epoch,
        "train_loss": _number(train_loss),
        "val_loss": _number(val_loss),
        "val_accuracy": val_accuracy if math.isfinite(val_loss) else None,
        "seconds": perf_counter() - started,
        "images_per_s": sum(trained.sizes) / trained.seconds,
        "stall": trained.waited / trained.seconds,
    }


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
