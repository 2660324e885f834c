"""The training loop of one run: epochs, validation, early stopping, kept weights, and resuming."""

from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.models.build import count_parameters
from fastcifar.models.pretrained import Pretrained
from fastcifar.pipeline import Pipeline
from fastcifar.pipeline.arguments import dtype_of
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.outcome import epoch_line, over, summary_of
from fastcifar.runs.spec import RunSpec
from fastcifar.system.devices import forget_peak
from fastcifar.training.batches import open_pipelines
from fastcifar.training.compile import steps_of
from fastcifar.training.footprint import footprint, peak_flops
from fastcifar.training.learner import Learner, evaluate, mean_loss
from fastcifar.training.options import Options, Watch
from fastcifar.training.record import context, record, resume
from fastcifar.training.schedule import last_rate
from fastcifar.training.single import check_single_images
from fastcifar.training.steps import Captured, Eager
from fastcifar.training.team import Team


def train(
    spec: RunSpec,
    dataset: Dataset,
    out: Path,
    device: torch.device,
    watch: Watch = lambda line: None,
    options: Options = Options(),
) -> dict[str, Any]:
    """Train or resume a run in ``RunDirectory.of(spec, out)``, and return its summary.

    A finished run is not trained again. watch: a callback for each epoch's line of metrics. Raises UsageError where the
    spec names another dataset, or BatchNorm cannot train on a batch of a single image. Raises FastcifarError where the
    directory is in use or damaged, or the device's memory is full.
    """
    if spec.dataset != dataset.sha256:
        raise UsageError(
            f"the run is of dataset {spec.dataset[:12]}, but {dataset.path} is {dataset.sha256[:12]}; choose the run's "
            "dataset, or make a spec for this one"
        )
    team = Team.joined(device)
    directory = team.directory(spec, out)
    with directory.locked():
        directory.require_trust(dataset.verified)
        summary = team.first(directory.summary())
        if summary is None:
            check_single_images([spec], dataset)
            training, validation = open_pipelines(spec, dataset, device, team.shard)
            with training, validation:
                learner = Learner.new(spec, len(dataset.classes), device, options.tensors, options.say)
                directory.start(spec, context(dataset, device, options.mode))
                try:
                    summary = _train(learner, training, validation, RunSoFar(directory, watch, options, team))
                except torch.OutOfMemoryError as error:
                    raise FastcifarError(
                        f"{device} has no memory left for {spec.label}, although an earlier step fitted; stop other "
                        "programs on it, then run the same command again: it continues from the last whole epoch"
                    ) from error
            directory.finish(summary)
        return summary


class RunSoFar(NamedTuple):
    """The directory of a run, its callback, its options, and the team of processes that train it."""

    directory: RunDirectory
    watch: Watch
    options: Options
    team: Team


def _train(learner: Learner, training: Pipeline, validation: Pipeline, run: RunSoFar) -> dict[str, Any]:
    spec, protocol, team = learner.spec, PROTOCOLS[learner.spec.protocol], run.team
    lines = team.first(resume(learner, run.directory))
    for line in lines:
        run.watch(line)
    on_cuda = learner.device.type == "cuda"
    forget_peak(learner.device)
    costs = _costs(learner, training)
    team.connect(learner)
    steps = steps_of(run.options.mode, learner, training)
    while not over(spec, lines):
        line = team.first(_epoch(learner, steps, validation, protocol.batch_mean_loss, run))
        if costs:
            line["peak_share"] = line["images_per_s"] * costs["flops_per_image"] / costs["peak_flops"]
        record(learner, run.directory, lines, line)
        run.watch(line)
    return {
        **summary_of(spec, lines, count_parameters(learner.model)),
        **costs,
        "peak_device_bytes": torch.cuda.max_memory_reserved(learner.device) if on_cuda else None,
        "mode": run.options.mode,
    }


def _costs(learner: Learner, training: Pipeline) -> dict[str, Any]:
    """Measure the cost of a pretrained network's steps and the peak of the device, in bytes and operations.

    Returns an empty dict for other networks.
    """
    if not isinstance(learner.model, Pretrained):
        return {}
    batch = next(iter(training.epoch(learner.epoch + 1)))
    taken, peak = footprint(learner, batch), peak_flops(learner.device, dtype_of(learner.spec.precision))
    learner.say(
        f"{learner.spec.label}: activations of {min(learner.micro_batch, len(batch.ids))} images take "
        f"{taken.activation_bytes / 2**20:,.0f} MiB; an image takes {taken.flops / 1e9:.2f} GFLOP, and "
        f"{learner.device} computes {peak / 1e9:,.0f} GFLOP/s in a product of matrices"
    )
    return {"activation_bytes": taken.activation_bytes, "flops_per_image": taken.flops, "peak_flops": peak}


def _epoch(
    learner: Learner, steps: Eager | Captured, validation: Pipeline, batch_means: bool, run: RunSoFar
) -> dict[str, Any]:
    """Train an epoch, validate, and return the line of metrics.jsonl."""
    epoch, started = learner.epoch + 1, perf_counter()
    trained = run.team.together(steps.epoch(epoch, tell=run.options.tell))
    train_loss = mean_loss(trained.losses, trained.sizes, batch_means)
    validated = evaluate(learner, validation.epoch(epoch), batch_means)
    learner.epoch = epoch
    rate, stall = sum(trained.sizes) / trained.seconds, trained.waited / trained.seconds
    lr = last_rate(learner.spec, epoch, len(trained.sizes))
    return epoch_line(epoch, train_loss, validated, lr, perf_counter() - started, rate, stall)
