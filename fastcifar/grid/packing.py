"""The packs of a grid's runs, and an estimate of the training time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fastcifar.data.dataset import Dataset
from fastcifar.experiments import EXPERIMENTS, PROTOCOLS
from fastcifar.packs.choice import Measured, shape_of
from fastcifar.packs.shape import Shape
from fastcifar.runs.spec import RunSpec
from fastcifar.training.heads import can_be_cached

EVALUATION_COST = 1 / 3  # of evaluating an image, as a share of training it, if it was not measured: the forward pass


@dataclass(frozen=True)
class Pack:
    """Runs of one shape that train together."""

    specs: tuple[RunSpec, ...]

    @cached_property
    def shape(self) -> Shape:
        return shape_of(self.specs[0])

    @property
    def title(self) -> str:
        """The readable name: experiment, network, batch size, recipe and number of runs."""
        first = self.specs[0]
        return f"exp {first.experiment} {first.model} b{first.batch_size} {first.recipe} x {len(self.specs)}"


def packs_of(specs: Iterable[RunSpec], most: Callable[[Shape], int]) -> list[Pack]:
    """Return the runs in packs of at most ``most(shape)`` runs. Runs that share their images are neighbours."""
    shapes: dict[tuple[Any, ...], Shape] = {}
    grouped: dict[Shape, list[RunSpec]] = {}
    for spec in specs:
        key = (spec.experiment, spec.model, spec.protocol, spec.batch_size, spec.recipe, spec.precision, spec.pipeline,
               spec.tune, spec.weights, spec.optimizer, spec.code)  # fmt: skip
        shape = shapes.get(key) or shapes.setdefault(key, shape_of(spec))
        grouped.setdefault(shape, []).append(spec)
    packs = []
    for shape, alike in grouped.items():
        alike.sort(key=lambda spec: (spec.recipe, spec.seed))  # stable: configurations keep their order
        size = max(1, most(shape))
        packs += [Pack(tuple(alike[n : n + size])) for n in range(0, len(alike), size)]
    return packs


def unfinished(specs: Iterable[RunSpec], out: Path) -> list[RunSpec]:
    """Return the specs whose runs have no summary in a run directory below ``out``."""
    finished = set()
    for number in EXPERIMENTS:
        folder = out / f"exp{number}"
        if folder.is_dir():
            finished |= {entry.name for entry in folder.iterdir() if (entry / "summary.json").exists()}
    return [spec for spec in specs if spec.run_id not in finished] if finished else list(specs)


def seconds_of(pack: Pack, measured: Measured, dataset: Dataset, devices: int) -> tuple[float, float]:
    """Return a pack's least and greatest share of a grid's time, in seconds, on ``devices`` devices.

    The first is for runs that all stop as early as their protocol allows, the second for runs that never stop early.
    """
    epoch = epoch_seconds(measured, dataset)
    spans = [run_seconds(spec, epoch) for spec in pack.specs]
    return sum(low for low, _ in spans) / devices, sum(high for _, high in spans) / devices


def epoch_seconds(measured: Measured, dataset: Dataset) -> float:
    """Return the seconds of an epoch of one run on one device, with its validation."""
    training, validation = (len(dataset.ids(split)) for split in ("training", "validation"))
    share = EVALUATION_COST if measured.evaluation is None else measured.evaluation
    return (training + share * validation) / measured.rate


def run_seconds(spec: RunSpec, epoch: float) -> tuple[float, float]:
    """Return the least and the greatest seconds of one run on one device, as `seconds_of` does.

    epoch: the seconds of an epoch. Where features are cached, a run counts as one epoch, which computes them.
    """
    if can_be_cached(spec):
        return epoch, epoch
    return epoch * min(spec.epochs, PROTOCOLS[spec.protocol].min_epochs), epoch * spec.epochs
