"""Does the drift of BatchNorm's running statistics make the validation loss of a frozen network unstable?

The arms train the same last layer, from the same start, on the same batches. BatchNorm is in training mode, where every
batch moves the running statistics of the frozen backbone, or in eval mode, where it does not. Each head is evaluated
twice: as it is, and with the initial statistics put back, which sets what the head learnt apart from the drift. A step
in training mode goes by its own batch's statistics, so that the momenta's heads are one and the same throughout.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.models.published import Weights
from fastcifar.pipeline import Pipeline
from fastcifar.rng.philox import Stream, shuffled
from fastcifar.runs.spec import RunSpec
from fastcifar.training.batches import open_pipelines
from fastcifar.training.learner import Learner, evaluate

BatchNorm = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Arm:
    """momentum: the share of each batch in the running statistics; None: BatchNorm in eval mode, where it has none."""

    momentum: float | None = None

    @property
    def name(self) -> str:
        """As tables and pictures have it."""
        return "eval mode" if self.momentum is None else f"training mode, momentum {self.momentum:g}"

    @property
    def tune(self) -> str:
        """The way of models.tuning that trains so; dropout and stochastic depth, where there are any, go with it."""
        return "head" if self.momentum is None else "as-run"


def arms_of(momenta: Sequence[float]) -> list[Arm]:
    """Training mode with each momentum, then eval mode. Raises UsageError unless they are different, in (0, 1]."""
    if not momenta or len(set(momenta)) < len(momenta) or not all(0 < momentum <= 1 for momentum in momenta):
        raise UsageError(f"momenta {', '.join(map(str, momenta)) or 'none'}: different numbers in (0, 1] are needed")
    return [*map(Arm, momenta), Arm()]


@dataclass(frozen=True)
class Evaluation:
    """A head on the validation images, after a step of an epoch (both from 1; 0 and 0 before the first step)."""

    arm: str
    epoch: int
    step: int
    loss: float
    accuracy: float
    """in [0, 1]"""
    restored_loss: float
    """of the same head, with the initial statistics put back"""
    restored_accuracy: float
    moved: float
    """how far the running means are from the initial ones: `Statistics.moved`, the median layer"""
    moved_most: float
    """and the layer where that is largest"""


@dataclass(frozen=True)
class BatchNormExperiment:
    """spec: the network, its training, epochs and seed; its ``tune`` is each arm's. Raises UsageError where too few
    evaluations would be compared.
    """

    spec: RunSpec
    dataset: Dataset
    weights: Weights
    device: torch.device
    arms: Sequence[Arm]
    last: int
    """evaluations an epoch: after each of its last so many steps"""
    say: Callable[[str], None] = lambda text: None
    """told when a batch did not fit in memory whole, so that BatchNorm saw parts of it"""

    def __post_init__(self) -> None:
        if self.spec.epochs < 2 or self.each_epoch < 3:
            raise UsageError(
                f"{self.spec.epochs} epochs with {self.each_epoch} evaluations at the end of each, as an epoch has "
                f"{self.steps} steps: at least 2 epochs are needed, since the first is left out, and 3 evaluations"
            )

    @cached_property
    def steps(self) -> int:
        """Steps an epoch."""
        return -(-len(self.dataset.ids("training")) // self.spec.batch_size)

    @property
    def each_epoch(self) -> int:
        """Evaluations an epoch."""
        return min(self.last, self.steps)

    def __len__(self) -> int:
        """Evaluations in all."""
        return len(self.arms) * (1 + self.spec.epochs * self.each_epoch)

    def __iter__(self) -> Iterator[Evaluation]:
        """Train every arm, and evaluate on the way. Raises UsageError for a network without BatchNorm."""
        training, validation = open_pipelines(self.spec, self.dataset, self.device)
        with training, validation:
            for arm in self.arms:
                yield from self._train(arm, training, validation)

    def _train(self, arm: Arm, training: Pipeline, validation: Pipeline) -> Iterator[Evaluation]:
        learner = Learner.new(
            replace(self.spec, tune=arm.tune), len(self.dataset.classes), self.device, self.weights.tensors
        )
        learner.say = self.say
        statistics = Statistics(learner.model, self.spec.model)
        if arm.momentum is not None:
            for norm in statistics.norms:
                norm.momentum = arm.momentum

        def evaluation(epoch: int, step: int) -> Evaluation:
            as_it_is = evaluate(learner, validation.epoch(0))
            with statistics.initial():
                restored = evaluate(learner, validation.epoch(0))
            moved = statistics.moved()
            return Evaluation(arm.name, epoch, step, *as_it_is, *restored, float(moved.median()), float(moved.max()))

        yield evaluation(0, 0)
        for epoch in range(1, self.spec.epochs + 1):
            for step, batch in enumerate(training.epoch(epoch), 1):
                learner.step(batch)
                if step > self.steps - self.each_epoch:
                    yield evaluation(epoch, step)
            learner.epoch = epoch


class Statistics:
    """The running statistics of a network's BatchNorm layers, which remembers how they are when this is made."""

    def __init__(self, network: nn.Module, name: str) -> None:
        """Raises UsageError, by the network's name, where there are none."""
        norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
        self.norms = [norm for norm in norms if norm.track_running_stats]
        if not self.norms:
            raise UsageError(f"{name} has no BatchNorm with running statistics, so none can drift; resnet18 has")
        self._initial = self._copied()

    @contextmanager
    def initial(self) -> Iterator[None]:
        """Put the initial statistics back for a while; nothing else is touched."""
        present = self._copied()
        self._put(self._initial)
        try:
            yield
        finally:
            self._put(present)

    def moved(self) -> Tensor:
        """(layers,) how far the means are from the initial ones, in initial standard deviations: the mean over channels
        of ``|mean - mean0| / sqrt(var0 + eps)``, which is how far the drift shifts what a layer of weight 1 gives.
        """
        layers = zip(self.norms, self._copied(), self._initial, strict=True)
        return torch.stack(
            [((mean - mean0).abs() / (var0 + norm.eps).sqrt()).mean() for norm, (mean, _), (mean0, var0) in layers]
        ).cpu()

    def _running(self) -> list[tuple[Tensor, Tensor]]:
        return [(norm.running_mean, norm.running_var) for norm in self.norms]  # type: ignore[misc]

    def _copied(self) -> list[tuple[Tensor, Tensor]]:
        return [(mean.clone(), var.clone()) for mean, var in self._running()]

    def _put(self, values: list[tuple[Tensor, Tensor]]) -> None:
        for present, value in zip(self._running(), values, strict=True):
            for into, tensor in zip(present, value, strict=True):
                into.copy_(tensor)


class Sample(Dataset):
    """A dataset of which training and validation have at most ``images`` each, drawn by the seed."""

    def __init__(self, whole: Dataset, images: int, seed: int) -> None:
        """images: at least 1, else UsageError is raised."""
        super().__init__(whole.path, whole.manifest)
        if images < 1:
            raise UsageError(f"--images {images} must be at least 1")
        self._at_most, self._seed = images, seed

    def ids(self, split: str, split_seed: int | None = None) -> NDArray[np.int64]:
        every = super().ids(split, split_seed)
        # the order of epoch 0, which nothing is trained on
        return np.sort(shuffled(every, self._seed, Stream.ORDER)[: self._at_most])

    def __reduce__(self) -> tuple[Any, ...]:
        return Sample, (Dataset(self.path, self.manifest), self._at_most, self._seed)
