"""The runs of a grid: every seed of every chosen configuration under every protocol."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS, SEEDS, experiment
from fastcifar.models.names import NONE, is_own
from fastcifar.pipeline.names import check_pipeline
from fastcifar.runs.plan import (
    PRETRAINED,
    check_amp,
    check_weights,
    precision_of,
    require_trained_from_scratch,
    weights_for,
)
from fastcifar.runs.settings import SETTABLE, require_key
from fastcifar.runs.spec import RunSpec

if TYPE_CHECKING:
    import torch

CHOOSABLE = {**{key: kind for key, kind in SETTABLE.items() if key != "epochs"}, "model": str}
"""The keys that --only takes, with their types."""


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


def check(wanted: Wanted, dataset: Dataset) -> None:
    """Raise UsageError for an unknown name, for a value out of range, or where no configuration is left.

    This needs no device, no weights and no torch, so that a command can refuse its options at once.
    """
    for key in wanted.only:
        require_key(key, CHOOSABLE, "--only")
    check_amp(wanted.amp)
    check_pipeline(wanted.pipeline)
    for number in wanted.numbers:
        check_weights(number, None, wanted.weights if number == PRETRAINED else None)
    if not _first_runs(wanted, dataset, lambda number: "float32", lambda number, model: NONE, lambda model: "unread"):
        raise UsageError(
            "no configuration fits "
            + " ".join(f"--only {key}={','.join(map(str, values))}" for key, values in wanted.only.items())
            + "; choose other values"
        )


def runs_of(wanted: Wanted, dataset: Dataset, device: "torch.device") -> Runs:
    """Return the wanted runs, each once. Raises the errors of `check`, and UsageError for one's own network that cannot
    train on the images.
    """
    check(wanted, dataset)
    from fastcifar.models.own import check_own, code_of

    left_out: dict[str, str] = {}
    precisions = {number: precision_of(wanted.amp, device, number) for number in wanted.numbers}
    first = _first_runs(
        wanted,
        dataset,
        precisions.__getitem__,
        lambda number, model: _identity(number, model, wanted.weights, left_out),
        code_of,
    )
    if wanted.model is not None:
        for side in {PROTOCOLS[spec.protocol].recipe(spec.recipe).out_size for spec in first}:
            check_own(wanted.model, len(dataset.classes), side)
    return Runs(tuple(spec.with_seed(seed) for spec in first for seed in wanted.seeds), left_out)


def _first_runs(
    wanted: Wanted,
    dataset: Dataset,
    precision: Callable[[int], str],
    identity: Callable[[int, str], str | None],
    code: Callable[[str], str],
) -> list[RunSpec]:
    """Return the first seed's run of each configuration, each once.

    precision: of an experiment's number. identity: of the initial weights of an experiment's network; None leaves the
    network out. code: of one's own network.
    """
    first: dict[RunSpec, None] = {}
    for number in wanted.numbers:
        overrides = {**_own(number, wanted.model, code), **wanted.overrides}
        for protocol in wanted.protocols:
            for point in _points(number, protocol, overrides, wanted.only):
                weights = identity(number, point["model"])
                if weights is not None:
                    shared = {"precision": precision(number), "pipeline": wanted.pipeline, "weights": weights, **point}
                    shared |= {"experiment": number, "protocol": protocol, "dataset": dataset.sha256}
                    first.setdefault(RunSpec(seed=wanted.seeds[0], **shared))
    return list(first)


def _points(
    number: int, protocol: str, overrides: Mapping[str, Sequence[Any]], only: Mapping[str, Sequence[Any]]
) -> list[dict[str, Any]]:
    combined = [dict(zip(overrides, values, strict=True)) for values in product(*overrides.values())]
    configurations = experiment(number, protocol).configurations()
    points = [{**point, **replaced} for point in configurations for replaced in combined]
    return [point for point in points if all(point.get(key, _default(key)) in values for key, values in only.items())]


def _own(number: int, model: str | None, code: Callable[[str], str]) -> dict[str, list[Any]]:
    """Return the values that one's own network sets in all configurations of an experiment."""
    if model is None:
        return {}
    if not is_own(model):
        raise UsageError(
            f"--model {model}: this option is for your own network, package.module:factory; choose an experiment's "
            f"network with --only model={model}"
        )
    require_trained_from_scratch(number, model)
    return {"model": [model], "dropout": [0.0], "code": [code(model)]}


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
