"""The effect of each hyper-parameter on accuracy, and its interaction with others: differences of matched runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean
from typing import Any

from fastcifar.experiments import experiment
from fastcifar.report.collection import VARIED, Collection, Configuration, matched, run_ids
from fastcifar.report.figures import NAMES
from fastcifar.report.statistics import Interval, of_mean


@dataclass(frozen=True)
class Effect:
    """The change of accuracy from one value of a factor to another, in [-1, 1], with every other factor equal."""

    what: str
    interval: Interval
    """The mean over matched pairs of configurations. A pair's change is its mean over the seeds that both have."""
    runs: tuple[str, ...]


def main_effects(collection: Collection, number: int, protocol: str) -> list[Effect]:
    """Return the effects of every factor of the experiment's grid, from its first value to each other value."""
    measured = []
    cells = _cells(collection, number, protocol)
    for factor, (first, *others) in _factors(number, protocol).items():
        for other in others:
            pairs = _pairs(cells, factor, first, other)
            if pairs:
                changes = [change for change in map(_change, pairs) if change is not None]
                runs = run_ids(*(each for pair in pairs for each in pair))
                if changes:
                    measured.append(
                        Effect(f"{_value(factor, first)} → {_value(factor, other)}", of_mean(changes), runs)
                    )
    return measured


def interactions(collection: Collection, number: int, protocol: str) -> list[Effect]:
    """Return how much one factor's effect depends on another factor, for every two factors.

    Both factors go from their first to their last value. The interval is the effect of the one factor at the other's
    last value minus its effect at the other's first value.
    """
    measured = []
    cells, factors = _cells(collection, number, protocol), _factors(number, protocol)
    for one, other in combinations(factors, 2):
        (a, b), (x, y) = ((factors[key][0], factors[key][-1]) for key in (one, other))
        pairs = _pairs(cells, one, a, b)
        without, beside = (
            {_rest(low, one, other): (low, high) for low, high in pairs if low.has(**{other: value})}
            for value in (x, y)
        )
        changes: list[float] = []
        runs: list[str] = []
        for rest in without.keys() & beside.keys():
            before, after = _change(without[rest]), _change(beside[rest])
            if before is not None and after is not None:
                changes.append(after - before)
                runs += run_ids(*without[rest], *beside[rest])
        if changes:
            what = f"{_value(one, a)} → {_value(one, b)}, by {_value(other, x)} → {_value(other, y)}"
            measured.append(Effect(what, of_mean(changes), tuple(runs)))
    return measured


def _factors(number: int, protocol: str) -> Mapping[str, Sequence[Any]]:
    """Return the factors of the experiment's grid with more than one value, their values in the report's order."""
    return {key: values for key, values in experiment(number, protocol).grid.items() if len(values) > 1}


def _cells(collection: Collection, number: int, protocol: str) -> list[Configuration]:
    return collection.find(experiment=number, protocol=protocol)


def _pairs(
    cells: Sequence[Configuration], factor: str, first: Any, other: Any
) -> list[tuple[Configuration, Configuration]]:
    """Return pairs of configurations that have the values ``first`` and ``other`` of a factor and else are equal."""
    others = {_rest(each, factor): each for each in cells if each.values[factor] == other}
    return [
        (each, others[_rest(each, factor)])
        for each in cells
        if each.values[factor] == first and _rest(each, factor) in others
    ]


def _rest(each: Configuration, *factors: str) -> tuple[Any, ...]:
    """Return a configuration's values of all fields except the factors.

    The recipe is also left out where the model is a factor, because each pretrained network has a recipe of its own.
    """
    apart = {*factors, "recipe"} if "model" in factors else set(factors)
    return tuple(each.values[key] for key in VARIED if key not in apart)


def _change(pair: tuple[Configuration, Configuration]) -> float | None:
    """Return the mean difference of accuracy over the seeds that both configurations have; None without such seeds."""
    changes = [after - before for _, _, before, after in matched(*pair)]
    return mean(changes) if changes else None


def _value(factor: str, value: Any) -> str:
    return f"{NAMES[factor]} {value:g}" if factor in NAMES else str(value)
