"""The runs of a grid, their packs, and an estimate of the training time."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import EXPERIMENTS, PROTOCOLS, SEEDS, experiment
from fastcifar.models.own import check_own, is_own
from fastcifar.packs.choice import Measured, shape_of
from fastcifar.packs.shape import Shape
from fastcifar.pipeline import find_pipeline
from fastcifar.runs.plan import PRETRAINED, own_code, precision_of, weights_for
from fastcifar.runs.settings import SETTABLE, require_key
from fastcifar.runs.spec import RunSpec

EVALUATION_COST = 1 / 3  # cost of evaluating an image, as a share of training it: the forward pass alone
CHOOSABLE = {**{key: kind for key, kind in SETTABLE.items() if key != "epochs"}, "model": str}
"""The keys that --only takes, with their types."""


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


@dataclass(frozen=True)
class Runs:
    """The runs of a grid. left_out: the networks that cannot be trained, each with the reason."""

    specs: tuple[RunSpec, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class Wanted:
    """The choice of runs that a grid trains: every seed of every configuration under every protocol."""

    numbers: Sequence[int]
    """The numbers of the experiments."""
    protocols: Sequence[str] = ("sound",)
    seeds: Sequence[int] = SEEDS
    overrides: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Fields of RunSpec, with the values that replace those of the configurations. All combinations are trained."""
    only: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Fields of RunSpec, with the values that they may have; other configurations are left out."""
    amp: str = "auto"
    """One of `plan.AMP`."""
    pipeline: str = "resident"
    weights: str | None = None
    """The pre-trained weights of experiment 4, as `weights_for` takes them."""
    model: str | None = None
    """One's own network, package.module:factory, in place of the experiments' networks."""


def runs_of(wanted: Wanted, dataset: Dataset, device: torch.device) -> Runs:
    """Return the wanted runs, each once. Raises UsageError for an unknown name, for a value out of range, or where no
    configuration is left.
    """
    find_pipeline(wanted.pipeline)
    first: dict[RunSpec, None] = {}
    left_out: dict[str, str] = {}
    for key in wanted.only:
        require_key(key, CHOOSABLE, "--only")
    for number in wanted.numbers:
        precision = precision_of(wanted.amp, device, number)
        overrides = {**_own(number, wanted.model), **wanted.overrides}
        for protocol in wanted.protocols:
            for point in _points(number, protocol, overrides, wanted.only):
                identity = _identity(number, point["model"], wanted.weights, left_out)
                if identity is not None:
                    shared = {"precision": precision, "pipeline": wanted.pipeline, "weights": identity, **point}
                    shared |= {"experiment": number, "protocol": protocol, "dataset": dataset.sha256}
                    first.setdefault(RunSpec(seed=wanted.seeds[0], **shared))
    if not first and not left_out:
        raise UsageError(
            "no configuration fits "
            + " ".join(f"--only {key}={','.join(map(str, values))}" for key, values in wanted.only.items())
            + "; choose other values"
        )
    if wanted.model is not None:
        for side in {shape_of(spec).side for spec in first}:
            check_own(wanted.model, len(dataset.classes), side)
    return Runs(tuple(spec.with_seed(seed) for spec in first for seed in wanted.seeds), left_out)


def _points(
    number: int, protocol: str, overrides: Mapping[str, Sequence[Any]], only: Mapping[str, Sequence[Any]]
) -> list[dict[str, Any]]:
    combined = [dict(zip(overrides, values, strict=True)) for values in product(*overrides.values())]
    configurations = experiment(number, protocol).configurations()
    points = [{**point, **replaced} for point in configurations for replaced in combined]
    return [point for point in points if all(point.get(key, _default(key)) in values for key, values in only.items())]


def _own(number: int, model: str | None) -> dict[str, list[Any]]:
    """Return the values that one's own network sets in all configurations of an experiment."""
    if model is None:
        return {}
    if not is_own(model):
        raise UsageError(
            f"--model {model}: this option is for your own network, package.module:factory; choose an experiment's "
            f"network with --only model={model}"
        )
    return {"model": [model], "dropout": [0.0], "code": [own_code(number, model)]}


def _default(key: str) -> Any:
    return next((field.default for field in dataclasses.fields(RunSpec) if field.name == key), None)


def _identity(number: int, model: str, weights: str | None, left_out: dict[str, str]) -> str | None:
    """Return the identity of a network's initial weights.

    If they are not available, write the reason to ``left_out`` and return None.
    """
    if number != PRETRAINED:
        return "none"
    if model in left_out:
        return None
    try:
        return weights_for(number, model, weights).identity
    except FastcifarError as error:
        left_out[model] = str(error)
        return None


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
    training, validation = (len(dataset.ids(split)) for split in ("training", "validation"))
    epoch = (training + EVALUATION_COST * validation) / measured.rate
    latest = sum(spec.epochs for spec in pack.specs)
    earliest = sum(min(spec.epochs, PROTOCOLS[spec.protocol].min_epochs) for spec in pack.specs)
    return epoch * earliest / devices, epoch * latest / devices
