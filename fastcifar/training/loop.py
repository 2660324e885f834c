"""Training one run: epochs, validation, early stopping, kept weights, and going on after an interruption."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.models import count_parameters
from fastcifar.models.pretrained import Pretrained
from fastcifar.pipeline import Pipeline
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.outcome import number, over, summary_of
from fastcifar.runs.spec import PRECISIONS, RunSpec
from fastcifar.system.devices import forget_peak
from fastcifar.training.batches import open_pipelines
from fastcifar.training.compile import steps_of
from fastcifar.training.footprint import footprint, peak_flops
from fastcifar.training.learner import Learner, evaluate, mean_loss
from fastcifar.training.record import context, record, resume
from fastcifar.training.steps import Captured, Eager
from fastcifar.training.team import Team


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
    team = Team.joined(device)
    directory = team.directory(spec, out)
    with directory.locked():
        summary = team.first(directory.summary())
        if summary is None:
            training, validation = open_pipelines(spec, dataset, device, team)
            with training, validation:
                learner = Learner.new(spec, len(dataset.classes), device, tensors)
                learner.say = say
                directory.start(spec, context(dataset, device, mode))
                try:
                    summary = _train(learner, training, validation, directory, watch, mode, team) | {"mode": mode}
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
    team: Team,
) -> dict[str, Any]:
    spec, protocol = learner.spec, PROTOCOLS[learner.spec.protocol]
    lines = team.first(resume(learner, directory))
    for line in lines:
        watch(line)
    on_cuda = learner.device.type == "cuda"
    forget_peak(learner.device)
    costs = _costs(learner, training)
    team.connect(learner)
    steps = steps_of(mode, learner, training)
    while not over(spec, lines):
        line = team.first(_epoch(learner, steps, validation, protocol.batch_mean_loss, team))
        if costs:
            line["peak_share"] = line["images_per_s"] * costs["flops_per_image"] / costs["peak_flops"]
        record(learner, directory, lines, line)
        watch(line)
    return {
        **summary_of(spec, lines, count_parameters(learner.model)),
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


def _epoch(
    learner: Learner, steps: Eager | Captured, validation: Pipeline, batch_means: bool, team: Team
) -> dict[str, Any]:
    """One epoch of training and its validation: a line of metrics.jsonl."""
    epoch, started = learner.epoch + 1, perf_counter()
    trained = team.together(steps.epoch(epoch))
    train_loss = mean_loss(trained.losses, trained.sizes, batch_means)
    val_loss, val_accuracy = evaluate(learner, validation.epoch(epoch), batch_means)
    learner.epoch = epoch
    return {
        "epoch": epoch,
        "train_loss": number(train_loss),
        "val_loss": number(val_loss),
        "val_accuracy": val_accuracy if math.isfinite(val_loss) else None,
        "seconds": perf_counter() - started,
        "images_per_s": sum(trained.sizes) / trained.seconds,
        "stall": trained.waited / trained.seconds,
    }
