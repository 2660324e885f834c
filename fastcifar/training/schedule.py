"""The learning rate of each step of a run, as a pure function of the number of the step."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from fastcifar.runs.spec import RunSpec

WARM_UP, FIRST, LAST = 0.3, 1 / 25, 1e-4
"""The numbers of one-cycle, which are the defaults of torch's OneCycleLR: the share of the steps in which the learning
rate rises, the first learning rate divided by the largest one, and the last one divided by the first one."""


def constant(step: int, steps: int) -> float:
    """Return the factor of a learning rate that does not change: 1."""
    return 1.0


def cosine(step: int, steps: int) -> float:
    """Return the factor of the learning rate at a step: half a cosine from 1 to 0 (Loshchilov and Hutter, 2017)."""
    return _eased(1.0, 0.0, step / steps)


def onecycle(step: int, steps: int) -> float:
    """Return the factor of the learning rate at a step: a warm-up, then a fall to nearly 0 (Smith and Topin, 2018)."""
    top = WARM_UP * steps - 1  # the step with the largest learning rate
    if step <= top:
        return _eased(FIRST, 1.0, step / top if top else 1.0)
    return _eased(1.0, FIRST * LAST, (step - top) / (steps - 1 - top))


FACTORS: Mapping[str, Callable[[int, int], float]] = MappingProxyType({"cosine": cosine, "onecycle": onecycle})
"""The factor of the learning rate by schedule: a function of the step, counted from 0, and the number of all steps."""


def last_rate(spec: RunSpec, epoch: int, steps: int) -> float:
    """Return the learning rate of the last step of an epoch. epoch: counted from 1. steps: the steps of each epoch."""
    factor = FACTORS.get(spec.schedule)
    return spec.lr if factor is None else spec.lr * factor(epoch * steps - 1, spec.epochs * steps)


def rates(spec: RunSpec, epoch: int, steps: int) -> Tensor:
    """Return the learning rates of an epoch's steps, (steps,) float64.

    epoch: counted from 1. steps: the steps of each epoch.
    """
    factor, first = FACTORS.get(spec.schedule, constant), (epoch - 1) * steps
    return spec.lr * torch.tensor([factor(first + n, spec.epochs * steps) for n in range(steps)], dtype=torch.float64)


class Rate:
    """The learning rate of a run's steps: a number, or a tensor on the device that each step sets.

    The tensor and the table of an epoch's learning rates stay at their places in memory, so that a recorded step reads
    them.
    """

    def __init__(self, spec: RunSpec, device: torch.device) -> None:
        self._spec = spec
        self._table: Tensor | None = None
        self.value: float | Tensor = spec.lr
        """The learning rate, as an optimizer takes it."""
        if spec.schedule in FACTORS:
            self.value = torch.tensor(spec.lr, dtype=torch.float32, device=device)

    def begin(self, epoch: int, steps: int) -> None:
        """Prepare for the steps of an epoch. epoch: counted from 1. steps: the steps of each epoch."""
        if isinstance(self.value, Tensor):
            if self._table is None:
                self._table = torch.empty(steps, device=self.value.device)
            self._table.copy_(rates(self._spec, epoch, steps))

    def advance(self) -> None:
        """Set the learning rate of the next step of the epoch."""
        if isinstance(self.value, Tensor) and self._table is not None:
            self.value.copy_(self._table[0])
            self._table.copy_(self._table.roll(-1))  # steps beyond the epoch, as in a warm-up, begin it again


def _eased(first: float, last: float, share: float) -> float:
    """Return the value of half a cosine from ``first`` to ``last``. share: in [0, 1], the part that is over."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
