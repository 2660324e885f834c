"""What packs of a grid cost, from the records of their runs: an epoch, all else, and by both a whole protocol."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

from fastcifar.grid.packing import Pack, run_seconds
from fastcifar.packs.choice import Measured
from fastcifar.packs.names import SERIAL
from fastcifar.runs.spec import RunSpec
from fastcifar.show.text import counted


@dataclass(frozen=True)
class Cost:
    """The seconds of a pack, from the records of its runs."""

    runs: int
    way: str
    epochs: float
    """The epochs of a run, on average: less than asked where time ran out."""
    epoch: float
    """Seconds of an epoch of all runs: training, validation and files."""
    opening: float
    """Seconds of all else: opening, capturing, warming up, the summaries."""

    def of(self, runs: int) -> "Cost":
        """Return the cost of a pack of the same shape with another number of runs, by proportion."""
        return replace(self, runs=runs, epoch=self.epoch * runs / self.runs)


@dataclass
class Found:
    """The packs of a shape, and what was measured of them."""

    together: Pack
    """All runs of the shape."""
    packs: tuple[Pack, ...] = ()
    """Its packs; none where the ways were not measured."""
    measured: Measured | None = None
    measuring: float = 0.0
    """Seconds to measure the ways."""
    costs: dict[Pack, Cost] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """The number of the experiment."""
        return self.together.shape.experiment

    def cost(self, pack: Pack) -> Cost | None:
        """Return the cost of a pack: measured, else by the pack of this shape that is nearest in size.

        None where no pack of this shape was trained.
        """
        if pack in self.costs or not self.costs:
            return self.costs.get(pack)
        return min(self.costs.values(), key=lambda cost: abs(cost.runs - len(pack.specs))).of(len(pack.specs))


def name(pack: Pack) -> str:
    """Return the name of a pack, whose runs may have several recipes."""
    return f"{pack.shape.model}, batch {pack.shape.batch_size}, {counted(len(pack.specs), 'run')}"


def in_turns(shapes: Iterable[Pack], numbers: Sequence[int]) -> list[Pack]:
    """Return the packs in turns, one of each experiment.

    numbers: the experiments in their order. Within an experiment the larger batch sizes come first.
    """
    ordered = sorted(shapes, key=lambda pack: -pack.shape.batch_size)
    columns = [[pack for pack in ordered if pack.shape.experiment == number] for number in numbers]
    return [pack for turn in zip_longest(*columns) for pack in turn if pack is not None]


def rest(found: Iterable[Found]) -> list[tuple[Found, Pack]]:
    """Return the packs that have no cost yet, with their shapes. Packs of a new size come before all others."""
    new, others = [], []
    for shape in found:
        sizes = {cost.runs for cost in shape.costs.values()}
        for pack in shape.packs:
            if pack not in shape.costs:
                (others if len(pack.specs) in sizes else new).append((shape, pack))
                sizes.add(len(pack.specs))
    return new + others


def cost_of(lines: Sequence[Sequence[Mapping[str, Any]]], way: str, seconds: float) -> Cost:
    """Return the cost of a pack. lines: each run's lines of metrics.jsonl. seconds: of the pack's whole training.

    An epoch lasts from the end of the epoch before to its own end. Where no run had a second epoch, it is the recorded
    time of the first, with training and validation only.
    """
    runs = len(lines)
    spans = [(of[-1]["time"] - of[0]["time"]) / (len(of) - 1) for of in lines if len(of) > 1]
    epoch = statistics.mean(spans) * (runs if way == SERIAL else 1) if spans else recorded(lines)
    epochs = sum(map(len, lines)) / runs
    return Cost(runs, way, epochs, epoch, max(0.0, seconds - epochs * epoch))


def recorded(lines: Sequence[Sequence[Mapping[str, Any]]]) -> float:
    """Return the recorded seconds of the last epoch of all runs: training and validation."""
    return statistics.mean(of[-1]["seconds"] for of in lines if of) * len(lines)


def span_of(specs: Sequence[RunSpec], cost: Cost) -> tuple[float, float]:
    """Return the least and the greatest seconds of a pack under its protocol: all runs stop early, or none does."""
    spans = [run_seconds(replace(spec, epochs=RunSpec.epochs), cost.epoch / cost.runs) for spec in specs]
    low, high = (cost.opening + sum(seconds) for seconds in zip(*spans, strict=True))
    return low, high


def extrapolated(found: Sequence[Found]) -> dict[str, Any]:
    """Return what the protocol takes of the shapes that have a cost, and the names of the others.

    "seconds" and "seconds_by_experiment" are pairs: the least and the greatest of `span_of`, with measuring the ways.
    The start of processes is not in them, nor the captures of the smaller stacks that runs leave which stop early.
    """
    known = [shape for shape in found if shape.costs]
    priced = [(pack, shape.cost(pack)) for shape in known for pack in shape.packs]
    costs = [(pack, cost) for pack, cost in priced if cost is not None]
    spans: dict[int, list[float]] = {}
    for shape in known:
        spans.setdefault(shape.number, [0.0, 0.0])
        spans[shape.number] = [seconds + shape.measuring for seconds in spans[shape.number]]
    for pack, cost in costs:
        span = span_of(pack.specs, cost)
        spans[pack.shape.experiment] = [sum(pair) for pair in zip(spans[pack.shape.experiment], span, strict=True)]
    missing = [shape.together for shape in found if not shape.costs]
    return {
        "extrapolated": True,
        "seconds": [sum(span[end] for span in spans.values()) for end in range(2)],
        "seconds_by_experiment": {str(number): spans[number] for number in sorted(spans)},
        "epoch_seconds": sum(cost.epoch for _, cost in costs),
        "start_seconds": sum(shape.measuring for shape in known) + sum(cost.opening for _, cost in costs),
        "runs": sum(len(pack.specs) for pack, _ in costs),
        "packs": len(costs),
        "packs_estimated": len(costs) - sum(len(shape.costs) for shape in known),
        "runs_missing": sum(len(pack.specs) for pack in missing),
        "missing": [name(pack) for pack in missing],
    }


def in_words(whole: Mapping[str, Any]) -> str:
    """Return the sentence of `extrapolated`."""
    low, high = (seconds / 60 for seconds in whole["seconds"])
    says = f"extrapolated: {whole['runs']} runs, {low:.1f} min if all stop early, {high:.1f} if none does; "
    says += f"{whole['start_seconds'] / 60:.1f} of it before the epochs; {whole['epoch_seconds']:.2f} s an epoch of all"
    if whole["packs_estimated"]:
        says += f"; {whole['packs_estimated']} of {whole['packs']} packs by others of their shape"
    if whole["missing"]:
        says += f"; WITHOUT {'; '.join(whole['missing'])}: not measured"
    return says
