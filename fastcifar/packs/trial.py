"""Short trials of a way to train a pack, on learners of their own: its speed, and the memory of a run."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from time import perf_counter

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.models.build import count_parameters
from fastcifar.packs.names import SIDE_BY_SIDE, STACKED
from fastcifar.packs.training import open_stacked
from fastcifar.packs.ways import mode_of
from fastcifar.runs.spec import RunSpec
from fastcifar.system import machine
from fastcifar.system.devices import threads
from fastcifar.training.batches import open_pipelines
from fastcifar.training.compile import steps_of
from fastcifar.training.footprint import footprint
from fastcifar.training.learner import Learner
from fastcifar.training.steps import Captured, Eager

SECONDS, MOST_STEPS = 1.0, 100  # seconds and steps of a timed trial at most; at least one step is timed
STATE_BYTES = 20  # per weight, in float32: the weight, its gradient and a copy of it, and Adam's two moments


class Trial:
    """A few runs that train in one of packs.names.WAYS. A context manager that closes their pipelines and threads."""

    def __init__(self, train: Callable[[int], int], opened: ExitStack) -> None:
        """train: a function that does the given number of steps and returns the number of images of all runs together.
        opened: the resources to close at the end.
        """
        self.train, self._opened, self._steps = train, opened, 1

    def rate(self) -> float:
        """Time the training for about SECONDS and return the images/s of all runs together."""
        started = perf_counter()
        images = self.train(self._steps)
        seconds = perf_counter() - started
        self._steps = max(1, min(MOST_STEPS, int(self._steps * SECONDS / seconds)))
        return images / seconds

    def __enter__(self) -> "Trial":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()


def trial_of(way: str, spec: RunSpec, dataset: Dataset, device: torch.device, runs: int) -> Trial:
    """Return a trial of runs like ``spec``, after two warm-up steps, which compile. runs: number of runs of a stack."""
    with ExitStack() as opening:
        train = _trainer(way, spec, dataset, device, runs, opening)
        train(2)
        return Trial(train, opening.pop_all())


def _trainer(
    way: str, spec: RunSpec, dataset: Dataset, device: torch.device, runs: int, opened: ExitStack
) -> Callable[[int], int]:
    if way in STACKED:
        specs = [spec.with_seed(seed) for seed in range(runs)]
        together = opened.enter_context(open_stacked(specs, dataset, device, way, mode_of(spec, device)))
        return lambda steps: sum(together.epoch(1, steps).sizes) * runs
    if way == SIDE_BY_SIDE:
        cores = machine.usable_cores()
        pool = opened.enter_context(ThreadPoolExecutor(cores))
        with threads(1):
            alone = [_alone(spec.with_seed(seed), dataset, device, opened) for seed in range(cores)]

        def beside(steps: int) -> int:
            with threads(1):  # only during this call: the other trials use all threads
                return sum(pool.map(lambda one: sum(one.epoch(1, steps).sizes), alone))

        return beside
    only = _alone(spec, dataset, device, opened)
    return lambda steps: sum(only.epoch(1, steps).sizes)


def _alone(spec: RunSpec, dataset: Dataset, device: torch.device, opened: ExitStack) -> Eager | Captured:
    training, validation = open_pipelines(spec, dataset, device)
    validation.close()
    opened.enter_context(training)
    return steps_of(mode_of(spec, device), Learner.new(spec, len(dataset.classes), device), training)


def run_bytes(spec: RunSpec, dataset: Dataset, device: torch.device) -> int:
    """Return the device memory of a run in bytes: weights, gradients, Adam moments and one batch's activations."""
    training, validation = open_pipelines(spec, dataset, device)
    validation.close()
    with training:
        learner = Learner.new(spec, len(dataset.classes), device)
        taken = footprint(learner, next(iter(training.epoch(1))))
        return taken.activation_bytes + STATE_BYTES * count_parameters(learner.model)
