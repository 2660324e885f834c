"""The runs of a grid: every seed of every chosen configuration under every protocol."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PRETRAINED, PROTOCOLS, SEEDS, experiment
from fastcifar.models.names import NONE, is_own, require_own
from fastcifar.pipeline.names import check_pipeline
from fastcifar.runs.plan import check_amp, check_weights, precision_of, require_recipe, weights_for
from fastcifar.runs.settings import SETTABLE, nearest_value, require_key
from fastcifar.runs.spec import RunSpec

if TYPE_CHECKING:
    import torch

CHOOSABLE = {**{key: kind for key, kind in SETTABLE.items() if key not in ("epochs", "precision")}, "model": str}
"""The keys that --only takes, with their types. Precision is --amp's, the same in all runs of an experiment."""


@dataclass(frozen=True)
class Runs:
    """The runs of a grid. left_out: the networks that cannot be trained, each with the reason. notes: of the weights'
    files, for people.
    """

    specs: tuple[RunSpec, ...]
    left_out: Mapping[str, str]
    notes: tuple[str, ...] = ()


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
    for option, given in (("--exp", wanted.numbers), ("--protocol", wanted.protocols), ("--seeds", wanted.seeds)):
        if not given:
            raise UsageError(f"{option} names nothing; give at least one value")
    check_amp(wanted.amp)
    check_pipeline(wanted.pipeline)
    for number in wanted.numbers:
        check_weights(number, wanted.model, wanted.weights if number == PRETRAINED else None)
    _require_values(wanted)
    # makes every spec, which refuses values out of range
    _first_runs(wanted, dataset, lambda number: "float32", lambda number, model: NONE, lambda model: "unread")


def runs_of(wanted: Wanted, dataset: Dataset, device: "torch.device") -> Runs:
    """Return the wanted runs, each once. Raises the errors of `check`, and UsageError for a network that cannot train
    on the images or on a batch of one image.
    """
    check(wanted, dataset)
    from fastcifar.models.own import code_of
    from fastcifar.models.own_check import check_own
    from fastcifar.training.single import check_single_images

    left_out: dict[str, str] = {}
    notes: dict[str, None] = {}  # each once
    precisions = {number: precision_of(wanted.amp, device, number) for number in wanted.numbers}
    first = _first_runs(
        wanted,
        dataset,
        precisions.__getitem__,
        lambda number, model: _identity(number, model, wanted.weights, left_out, notes),
        code_of,
    )
    if wanted.model is not None:
        for side, new in {(PROTOCOLS[spec.protocol].recipe(spec.recipe).out_size, spec.fine_tuned) for spec in first}:
            check_own(wanted.model, len(dataset.classes), side, new)
    check_single_images(first, dataset)
    return Runs(tuple(spec.with_seed(seed) for spec in first for seed in wanted.seeds), left_out, tuple(notes))


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
    for number, protocol, point in _points(wanted, wanted.only, code):
        weights = identity(number, point["model"])
        if weights is not None:
            shared = {"precision": precision(number), "pipeline": wanted.pipeline, "weights": weights, **point}
            shared |= {"experiment": number, "protocol": protocol, "dataset": dataset.sha256}
            first.setdefault(RunSpec(seed=wanted.seeds[0], **shared))
    return list(first)


def _points(
    wanted: Wanted, only: Mapping[str, Sequence[Any]], code: Callable[[str], str] = lambda model: "unread"
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield the experiment, the protocol and the values of each configuration that fits ``only``."""
    for number in wanted.numbers:
        overrides = {**_own(number, wanted.model, wanted.overrides, code), **wanted.overrides}
        combined = [dict(zip(overrides, values, strict=True)) for values in product(*overrides.values())]
        for protocol in wanted.protocols:
            for point in experiment(number, protocol).configurations():
                for replaced in combined:
                    values = {**point, **replaced}
                    if all(_value(values, key) in allowed for key, allowed in only.items()):
                        yield number, protocol, values


def _require_values(wanted: Wanted) -> None:
    """Raise UsageError for a value of --only that no configuration has, else for one that none has which fits the
    other keys.
    """
    points = list(_points(wanted, {}))
    for key, values in wanted.only.items():
        every = {_value(point, key) for _, _, point in points}
        if missing := [value for value in values if value not in every]:
            raise UsageError(f"no configuration fits --only {key}={missing[0]}; {nearest_value(missing[0], every)}")
    for key, values in wanted.only.items():
        others = {other: chosen for other, chosen in wanted.only.items() if other != key}
        fitting = {_value(point, key) for _, _, point in _points(wanted, others)}
        if missing := [value for value in values if value not in fitting]:
            beside = " ".join(f"--only {other}={','.join(map(str, chosen))}" for other, chosen in others.items())
            raise UsageError(
                f"no configuration fits --only {key}={missing[0]} beside {beside}; {nearest_value(missing[0], fitting)}"
            )


def _own(
    number: int, model: str | None, overrides: Collection[str], code: Callable[[str], str]
) -> dict[str, list[Any]]:
    """Return the values that one's own network sets in all configurations of an experiment."""
    if model is None:
        return {}
    if not is_own(model):
        raise UsageError(
            f"--model {model}: this option is for your own network, package.module:factory; choose an experiment's "
            f"network with --only model={model}"
        )
    require_own(model)
    if number == PRETRAINED:
        require_recipe(model, overrides)
    return {"model": [model], "dropout": [0.0], "code": [code(model)]}


def _value(point: Mapping[str, Any], key: str) -> Any:
    """Return the value of a field of RunSpec in a configuration; its default where the configuration has none."""
    return point.get(key, next((field.default for field in dataclasses.fields(RunSpec) if field.name == key), None))


def _identity(
    number: int, model: str, weights: str | None, left_out: dict[str, str], notes: dict[str, None]
) -> str | None:
    """Return the identity of a network's initial weights. Their note, if there is one, is added to ``notes``.

    If they are not available, write the reason to ``left_out`` and return None.
    """
    if number != PRETRAINED:
        return "none"
    if model in left_out:
        return None
    try:
        initial = weights_for(number, model, weights)
    except FastcifarError as error:
        left_out[model] = str(error)
        return None
    if initial.note:
        notes[initial.note] = None
    return initial.identity
