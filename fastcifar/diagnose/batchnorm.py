"""Does the drift of BatchNorm's running statistics make the validation loss of a frozen network unstable?

The arms train the same last layer (the head), from the same initial weights, on the same batches. In training mode,
every batch changes the running statistics of the frozen backbone; in eval mode, no batch does. Each head is evaluated
twice: as it is, and with the initial statistics put back. This separates the head's learning from the drift. In
training mode, a step normalises by its own batch's statistics, so all momenta have equal heads after each step.
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
    """An arm of the experiment. momentum: BatchNorm's, in (0, 1], the weight of each new batch; None: eval mode."""

    momentum: float | None = None

    @property
    def name(self) -> str:
        """The name in tables and pictures."""
        return "eval mode" if self.momentum is None else f"training mode, momentum {self.momentum:g}"

    @property
    def tune(self) -> str:
        """The way of models.tuning that sets this mode, which also switches dropout and stochastic depth, if any."""
        return "head" if self.momentum is None else "as-run"


def arms_of(momenta: Sequence[float]) -> list[Arm]:
    """Return an arm in training mode for each momentum, then the arm in eval mode.

    Raises UsageError unless the momenta are different numbers in (0, 1].
    """
    if not momenta or len(set(momenta)) < len(momenta) or not all(0 < momentum <= 1 for momentum in momenta):
        listed = ", ".join(map(str, momenta)) or "none"
        raise UsageError(f"momenta {listed}: give different numbers in (0, 1] with --momenta, such as 0.1,0.01")
    return [*map(Arm, momenta), Arm()]


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a head on the validation images after a step of an epoch.

    Steps and epochs count from 1. Both are 0 before the first step.
    """

    arm: str
    epoch: int
    step: int
    loss: float
    accuracy: float
    """Accuracy in [0, 1]."""
    restored_loss: float
    """Loss of the same head with the initial statistics put back."""
    restored_accuracy: float
    moved: float
    """Distance of the running means from the initial ones by `Statistics.moved`: the median layer."""
    moved_most: float
    """The same distance in the layer where it is largest."""


@dataclass(frozen=True)
class BatchNormExperiment:
    """An experiment that trains all arms. Iterate over it to train and to get the evaluations.

    spec: the network, its training, epochs and seed; each arm replaces its ``tune``. Raises UsageError where too few
    evaluations would be compared.
    """

    spec: RunSpec
    dataset: Dataset
    weights: Weights
    device: torch.device
    arms: Sequence[Arm]
    last: int
    """The number of last steps of an epoch after which the head is evaluated."""
    say: Callable[[str], None] = lambda text: None
    """Called with a message when a batch did not fit in memory, so that BatchNorm saw micro-batches instead."""

    def __post_init__(self) -> None:
        if self.spec.epochs < 2 or self.each_epoch < 3:
            raise UsageError(
                f"{self.spec.epochs} epochs of {self.steps} steps, each with {self.each_epoch} evaluations: at least 2 "
                "epochs and 3 evaluations are needed, as the first epoch is left out; raise --epochs or --last, or "
                "lower --batch-size"
            )

    @cached_property
    def steps(self) -> int:
        """The number of steps of an epoch."""
        return -(-len(self.dataset.ids("training")) // self.spec.batch_size)

    @property
    def each_epoch(self) -> int:
        """The number of evaluations of an epoch."""
        return min(self.last, self.steps)

    def __len__(self) -> int:
        """Return the number of evaluations, summed over the arms of the experiment."""
        return len(self.arms) * (1 + self.spec.epochs * self.each_epoch)

    def __iter__(self) -> Iterator[Evaluation]:
        """Train every arm and yield its evaluations in order. Raises UsageError for a network without BatchNorm."""
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
    """The running statistics of a network's BatchNorm layers, and a copy of their initial values."""

    def __init__(self, network: nn.Module, name: str) -> None:
        """Copy the initial statistics. Raises UsageError, which mentions ``name``, where the network has none."""
        norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
        self.norms = [norm for norm in norms if norm.track_running_stats]
        if not self.norms:
            raise UsageError(f"{name} has no BatchNorm with running statistics, so none can drift; choose resnet18")
        self._initial = self._copied()

    @contextmanager
    def initial(self) -> Iterator[None]:
        """Put the initial statistics back within this context. Nothing else of the network changes."""
        present = self._copied()
        self._put(self._initial)
        try:
            yield
        finally:
            self._put(present)

    def moved(self) -> Tensor:
        """Return (layers,), on the CPU: the distance of each layer's running means from the initial ones.

        The distance is the mean over channels of ``|mean - mean0| / sqrt(var0 + eps)``, in initial standard deviations.
        The drift shifts the output of a layer with weight 1 by this much.
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
    """A dataset whose splits have at most ``images`` images each, drawn by the seed."""

    def __init__(self, whole: Dataset, images: int, seed: int) -> None:
        """images: the largest number of images of a split. Raises UsageError if it is below 1."""
        super().__init__(whole.path, whole.manifest)
        if images < 1:
            raise UsageError(f"--images {images} is below 1; give at least 1")
        self._at_most, self._seed = images, seed

    def ids(self, split: str, split_seed: int | None = None) -> NDArray[np.int64]:
        every = super().ids(split, split_seed)
        # the order of epoch 0, as training epochs begin with 1
        return np.sort(shuffled(every, self._seed, Stream.ORDER)[: self._at_most])

    def __reduce__(self) -> tuple[Any, ...]:
        return Sample, (Dataset(self.path, self.manifest), self._at_most, self._seed)
