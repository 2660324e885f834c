"""Train last layers on cached features. The heads of all seeds of a configuration train at once, independently."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.models.build import count_parameters
from fastcifar.models.pretrained import Pretrained
from fastcifar.pipeline import Request
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.outcome import Lines, accuracies, diverged, epoch_line, over, summary_of
from fastcifar.runs.spec import RunSpec
from fastcifar.system.launch import processes
from fastcifar.training.features import Features, features_of
from fastcifar.training.learner import Learner, mean_loss
from fastcifar.training.optimizers import optimizer_of
from fastcifar.training.options import Options, Watches
from fastcifar.training.record import context
from fastcifar.training.schedule import Rate, last_rate


def can_be_cached(spec: RunSpec) -> bool:
    """Return whether a run's last layer can be trained on cached features.

    Its backbone must give an image the same features in every epoch. Muon is for the matrix of one run, not of several.
    """
    still = not PROTOCOLS[spec.protocol].recipe(spec.recipe).random
    return spec.tune == "head" and still and spec.optimizer != "muon"


def train_heads(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    out: Path,
    device: torch.device,
    watches: Watches = MappingProxyType({}),
    options: Options = Options(),
) -> list[dict[str, Any]]:
    """Train runs that differ only in their seed, and return their summaries. Finished runs are not trained again.

    The metrics equal those of `loop.train` to rounding. An interrupted run starts again from its first epoch, as it
    takes seconds and gives the same result. watches: callbacks for the epochs of each run. Where ``options`` has no
    tensors, each seed has its own backbone. Raises the errors of `loop.train`.
    """
    if processes() > 1:
        raise UsageError("last layers on cached features train on one device, in seconds; leave torchrun out")
    directories = [RunDirectory.of(spec, out) for spec in specs]
    with contextlib.ExitStack() as locks:
        for directory in directories:
            locks.enter_context(directory.locked())
            directory.require_trust(dataset.verified)
        unfinished = [n for n, directory in enumerate(directories) if directory.summary() is None]
        together = [unfinished] if options.tensors else [[n] for n in unfinished]
        for group in filter(None, together):
            runs = [(specs[n], directories[n]) for n in group]
            _train(runs, dataset, device, watches, options)
        return [directory.summary() or {} for directory in directories]


def _train(
    runs: Sequence[tuple[RunSpec, RunDirectory]],
    dataset: Dataset,
    device: torch.device,
    watches: Watches,
    options: Options,
) -> None:
    specs, directories = [spec for spec, _ in runs], [directory for _, directory in runs]
    learners = [Learner.new(spec, len(dataset.classes), device, options.tensors, options.say) for spec in specs]
    features = features_of(learners[0], dataset, options.say)
    if features.seconds:
        options.say(
            f"{specs[0].model}: computed features of {len(features.values):,} images in {features.seconds:,.0f} s"
        )
    about = context(dataset, device, "cached features")
    for spec, directory in runs:
        directory.start(spec, about)
        directory.keep_metrics(0)
    heads = Heads(learners, features, dataset)
    lines: list[Lines] = [[] for _ in specs]
    best: list[tuple[dict[str, Any], Tensor, Tensor] | None] = [None] * len(specs)
    while going := [n for n, spec in enumerate(specs) if not over(spec, lines[n])]:
        for n, line in zip(going, heads.epoch(len(lines[going[0]]) + 1, going), strict=True):
            lines[n].append(line)
            seal = directories[n].append_metrics(line)
            if specs[n] in watches:
                watches[specs[n]](line)
            if not diverged(lines[n]) and PROTOCOLS[specs[n].protocol].keeps(accuracies(lines[n])):
                best[n] = ({"epoch": len(lines[n]), "line": seal}, *heads.of(n))
    for n, (learner, directory) in enumerate(zip(learners, directories, strict=True)):
        kept = best[n]
        if kept is not None:
            belongs, weight, bias = kept
            state = learner.model.state_dict() | {"head.weight": weight, "head.bias": bias}
            directory.save_tensors("model", state, {**belongs, "model": learner.spec.model})
        summary = summary_of(learner.spec, lines[n], count_parameters(learner.model))
        directory.finish(summary | {"mode": "cached features", "features_seconds": features.seconds,
                                    "peak_device_bytes": None})  # fmt: skip


class Heads:
    """The last layers of several runs on one backbone, and their optimizer, with a leading run dimension.

    Shape suffixes: R runs, B batch, F features, C classes. The runs do not influence one another.
    """

    def __init__(self, learners: Sequence[Learner], features: Features, dataset: Dataset) -> None:
        self._first, self._specs = learners[0], [learner.spec for learner in learners]
        device = self._first.device
        self._values, self._labels = features.values.to(device), features.labels.to(device)
        split_by_seed = PROTOCOLS[self._first.spec.protocol].split_by_seed
        self._requests = [
            Request(
                dataset, batch_size=spec.batch_size, seed=spec.seed, split_seed=spec.seed if split_by_seed else None
            )
            for spec in self._specs
        ]
        self._validation = [
            torch.from_numpy(dataset.ids("validation", request.split_seed)).to(device) for request in self._requests
        ]
        heads = [learner.model.head for learner in learners if isinstance(learner.model, Pretrained)]
        self._weight_RCF = torch.stack([head.weight.detach() for head in heads]).requires_grad_()
        self._bias_RC = torch.stack([head.bias.detach() for head in heads]).requires_grad_()
        spec = self._first.spec
        self._rate = Rate(spec, device)
        self._optimizer = optimizer_of([self._weight_RCF, self._bias_RC], spec, self._rate.value)

    def of(self, n: int) -> tuple[Tensor, Tensor]:
        """Return copies of the weight (C, F) and bias (C,) of run n."""
        return self._weight_RCF[n].detach().clone(), self._bias_RC[n].detach().clone()

    def epoch(self, k: int, going: Sequence[int]) -> list[dict[str, Any]]:
        """Train on the batches of epoch k, validate, and return a line of metrics for each run of ``going``.

        Runs that have ended are trained, too, which costs little and does not change their kept weights.
        """
        started, size = perf_counter(), self._first.spec.batch_size
        orders = np.stack([request.order(k) for request in self._requests])
        orders_RN = torch.from_numpy(orders).to(self._first.device)
        batches = orders_RN.split(size, dim=1)
        self._rate.begin(k, len(batches))
        losses, sizes = [], []
        for rows_RB in batches:
            losses.append(self._step(rows_RB))
            sizes.append(rows_RB.shape[1])
        by_run = torch.stack(losses).T.cpu()
        trained = perf_counter() - started
        batch_means = PROTOCOLS[self._first.spec.protocol].batch_mean_loss
        validated = {n: self._evaluate(n, batch_means) for n in going}
        runs, seconds = len(self._specs), perf_counter() - started
        return [
            epoch_line(
                k,
                mean_loss(by_run[n], sizes, batch_means),
                validated[n],
                last_rate(self._specs[n], k, len(sizes)),
                seconds / runs,
                runs * sum(sizes) / trained,
                0.0,
            )
            for n in going
        ]

    def _step(self, rows_RB: Tensor) -> Tensor:
        """Do a step of the optimizer for each run, and return the mean losses of their batches, (R,)."""
        with self._first.autocast():
            logits_RBC = torch.baddbmm(self._bias_RC[:, None], self._values[rows_RB], self._weight_RCF.mT)
        each = cross_entropy(logits_RBC.float().flatten(0, 1), self._labels[rows_RB].flatten(), reduction="none",
                             label_smoothing=self._first.spec.smoothing)  # fmt: skip
        losses_R = each.view(rows_RB.shape).mean(1)
        losses_R.sum().backward()  # a run's parameters get gradients from its own loss only
        self._rate.advance()
        self._optimizer.step()
        self._optimizer.zero_grad()
        return losses_R.detach()

    @torch.inference_mode()
    def _evaluate(self, n: int, batch_means: bool) -> tuple[float, float]:
        losses, sizes, right = [], [], 0
        for rows in self._validation[n].split(self._first.spec.batch_size):
            with self._first.autocast():
                logits = torch.nn.functional.linear(self._values[rows], self._weight_RCF[n], self._bias_RC[n]).float()
            losses.append(cross_entropy(logits, self._labels[rows]))
            sizes.append(len(rows))
            right += int((logits.argmax(1) == self._labels[rows]).sum())
        return mean_loss(torch.stack(losses), sizes, batch_means), right / sum(sizes)
