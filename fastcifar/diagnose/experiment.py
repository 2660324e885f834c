"""The parts that the measurements of all suspects share: the network, the images, and the steps that are evaluated."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.models.published import Weights
from fastcifar.runs.spec import RunSpec
from fastcifar.training.learner import Learner

FEWEST_EPOCHS = 3
"""Epochs: the first one is left out, and two changes between the ends of epochs are the fewest that can differ."""


@dataclass(frozen=True)
class Experiment:
    """A network, its training, epochs and seed (``spec``), its weights and its images.

    Raises UsageError for less than FEWEST_EPOCHS epochs, and for less than one evaluation an epoch.
    """

    spec: RunSpec
    dataset: Dataset
    weights: Weights
    device: torch.device
    per_epoch: int
    """Evaluations an epoch, evenly spaced, the last one at its end; at most one after each step."""
    say: Callable[[str], None] = lambda text: None
    """Called with a message when a batch did not fit in memory, so that BatchNorm saw micro-batches instead."""

    def __post_init__(self) -> None:
        if self.spec.epochs < FEWEST_EPOCHS:
            raise UsageError(
                f"--epochs {self.spec.epochs} is too few: a jump is computed from the losses after the first epoch; "
                f"give at least {FEWEST_EPOCHS}"
            )
        if self.per_epoch < 1:
            raise UsageError(f"--per-epoch {self.per_epoch} is below 1; give at least 1")

    @cached_property
    def steps(self) -> int:
        """The number of steps of an epoch."""
        return -(-len(self.dataset.ids("training")) // self.spec.batch_size)

    @cached_property
    def evaluated(self) -> list[int]:
        """The steps of an epoch, counted from 1, after which the validation images are evaluated, in order."""
        return sorted({-(-self.steps * n // self.per_epoch) for n in range(1, self.per_epoch + 1)})

    def learner(self, tune: str) -> Learner:
        """Return a learner with the initial weights. tune: the trained weights and BatchNorm's mode: names.WAYS."""
        spec = replace(self.spec, tune=tune)
        return Learner.new(spec, len(self.dataset.classes), self.device, self.weights.tensors, self.say)
