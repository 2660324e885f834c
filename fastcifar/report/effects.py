"""What each hyper-parameter of a grid does, and whether that depends on another: differences of matched runs."""

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
    """By how much accuracy changes from one value of a factor to another, in [-1, 1], everything else being equal."""

    what: str
    interval: Interval
    """over the matched pairs of configurations, each the mean over the seeds that both have"""
    runs: tuple[str, ...]


def main_effects(collection: Collection, number: int, protocol: str) -> list[Effect]:
    """Of every factor of the experiment's grid, from its first value to each other one."""
    found = []
    cells = _cells(collection, number, protocol)
    for factor, (first, *others) in _factors(number, protocol).items():
        for other in others:
            pairs = _pairs(cells, factor, first, other)
            if pairs:
                changes = [change for change in map(_change, pairs) if change is not None]
                runs = run_ids(*(each for pair in pairs for each in pair))
                if changes:
                    found.append(Effect(f"{_value(factor, first)} → {_value(factor, other)}", of_mean(changes), runs))
    return found


def interactions(collection: Collection, number: int, protocol: str) -> list[Effect]:
    """Of every two factors, their first and last values: how much the second changes what the first one does."""
    found = []
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
            found.append(Effect(what, of_mean(changes), tuple(runs)))
    return found


def _factors(number: int, protocol: str) -> Mapping[str, Sequence[Any]]:
    """Of the experiment's grid, those with more than one value; from the report's first value to its last."""
    return {key: values for key, values in experiment(number, protocol).grid.items() if len(values) > 1}


def _cells(collection: Collection, number: int, protocol: str) -> list[Configuration]:
    return collection.find(experiment=number, protocol=protocol)


def _pairs(
    cells: Sequence[Configuration], factor: str, first: Any, other: Any
) -> list[tuple[Configuration, Configuration]]:
    """Configurations with the one value and with the other that are alike in everything else."""
    others = {_rest(each, factor): each for each in cells if each.values[factor] == other}
    return [
        (each, others[_rest(each, factor)])
        for each in cells
        if each.values[factor] == first and _rest(each, factor) in others
    ]


def _rest(each: Configuration, *factors: str) -> tuple[Any, ...]:
    """Its values of all other fields. The recipe belongs to the network where the network is what varies."""
    apart = {*factors, "recipe"} if "model" in factors else set(factors)
    return tuple(each.values[key] for key in VARIED if key not in apart)


def _change(pair: tuple[Configuration, Configuration]) -> float | None:
    """The mean difference of accuracy over the seeds that both have; None where there are none."""
    changes = [after - before for _, _, before, after in matched(*pair)]
    return mean(changes) if changes else None


def _value(factor: str, value: Any) -> str:
    return f"{NAMES[factor]} {value:g}" if factor in NAMES else str(value)
