"""Choose the runs that let the report judge the most claims within a time.

A claim is complete when every seed of every configuration that its rule needs has ended. The choice of claims is a
knapsack whose items share runs. `choose` searches it depth first, and always tries the claim first that completes the
most claims an hour. So its first answer is that of the greedy rule, and later answers are only better.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastcifar.errors import UsageError
from fastcifar.grid.asked import Asked
from fastcifar.grid.packing import epoch_seconds, run_seconds
from fastcifar.grid.plan import plan
from fastcifar.grid.speeds import Speeds
from fastcifar.grid.wanted import Runs
from fastcifar.packs.choice import shape_of
from fastcifar.report.claims import CLAIMS
from fastcifar.runs.spec import RunSpec
from fastcifar.show.columns import Column, Fitted
from fastcifar.show.text import counted, duration

NODES = 10_000  # steps of the search; with the claims under one protocol it ends before, and the choice is the best


@dataclass(frozen=True)
class Target:
    """A claim of the report under a protocol, with all runs that it needs."""

    claim: str
    protocol: str
    runs: frozenset[RunSpec]


@dataclass(frozen=True)
class Choice:
    """The claims that are completed, and those that are left out, both in the order of the report."""

    ready: tuple[Target, ...]
    """The claims whose runs have all ended before."""
    completed: tuple[Target, ...]
    left: tuple[Target, ...]
    unreachable: tuple[tuple[str, str], ...]
    """The other claims, with their protocols: the grid lacks a configuration that they need, or no certain run
    decides, as for Kaggle's scores."""
    seconds: Mapping[RunSpec, float]
    """The seconds at most of each run that has not ended."""
    source: str = ""
    """A sentence on where the seconds come from."""

    @property
    def runs(self) -> frozenset[RunSpec]:
        """The chosen runs that have not ended."""
        return _missing(self.completed, self.seconds)

    def cost(self, target: Target) -> float:
        """Return the seconds at most that a claim that was left out would add to the chosen runs."""
        return _sum(_missing([target], self.seconds) - self.runs, self.seconds)

    def sentence(self) -> str:
        """Return a sentence with the numbers of claims and the hours."""
        if self.left and not self.completed:
            cheapest = min(self.left, key=self.cost)
            return (
                f"for the report: no claim can be completed in this time; {cheapest.claim} needs the least, "
                f"{duration(self.cost(cheapest))} at most"
            )
        before = f"; {len(self.ready)} can be judged already" if self.ready else ""
        rest = _missing(self.left, self.seconds) - self.runs
        left = f"; {len(self.left)} left out, for {duration(_sum(rest, self.seconds))} more" if self.left else ""
        return (
            f"for the report: {counted(len(self.runs), 'run')} in {duration(_sum(self.runs, self.seconds))} at most "
            f"complete {counted(len(self.completed), 'claim')}{before}{left}"
        )

    def table(self) -> Fitted:
        """Return a table of the claims that are completed and of those that are left out."""
        shown = [*((target, "now") for target in self.completed), *((target, "left out") for target in self.left)]
        missing = [_missing([target], self.seconds) for target, _ in shown]
        columns = [
            Column("claim", [target.claim for target, _ in shown], number=False),
            Column("protocol", [target.protocol for target, _ in shown], number=False),
            Column("runs needed", [f"{len(target.runs):,}" for target, _ in shown], rank=1),
            Column("runs to train", [f"{len(runs):,}" for runs in missing]),
            Column("at most", [duration(_sum(runs, self.seconds)) for runs in missing]),
            Column("when", [when for _, when in shown], number=False),
        ]
        return Fitted(columns, "Claims", "claims share runs, so their times overlap", "--wide shows them")

    def plain(self) -> dict[str, Any]:
        """Return the choice as plain data for scripts, ready for JSON."""

        def named(targets: Iterable[Target]) -> list[dict[str, Any]]:
            return [{"claim": each.claim, "protocol": each.protocol, "seconds": self.cost(each)} for each in targets]

        unreachable = [{"claim": claim, "protocol": protocol} for claim, protocol in self.unreachable]
        return {"ready": named(self.ready), "completed": named(self.completed), "left": named(self.left),
                "unreachable": unreachable, "seconds": _sum(self.runs, self.seconds)}  # fmt: skip


def choice_of(
    asked: Asked, runs: Runs, protocols: Sequence[str], speeds: Speeds, budget: float | None, say: Callable[[str], None]
) -> Choice:
    """Choose among the runs of a grid, by their measured seconds at most, shared by its devices.

    budget: seconds; None for all claims. Raises UsageError where the grid has no run that a claim needs.
    """
    targets, unreachable = targets_of(runs.specs, protocols)
    if not targets:
        raise UsageError(
            "--for-report: no claim of the report can be judged with runs of these options; leave out --only, --set or "
            "--model, or name more experiments with --exp"
        )
    needed = frozenset(run for target in targets for run in target.runs)
    planned = plan(asked, Runs(tuple(spec for spec in runs.specs if spec in needed), {}), say, speeds)
    epochs = {shape: epoch_seconds(measured, asked.dataset) for shape, measured in planned.measured.items()}
    seconds = {spec: run_seconds(spec, epochs[shape_of(spec)])[1] / len(asked.devices) for spec in planned.todo}
    choice = choose(targets, seconds, float("inf") if budget is None else budget, unreachable)
    return replace(choice, source=planned.source)


def chosen(runs: Runs, choice: Choice) -> Runs:
    """Return the runs of the claims that are completed, with those that have ended."""
    needed = frozenset(run for target in (*choice.ready, *choice.completed) for run in target.runs)
    return Runs(tuple(spec for spec in runs.specs if spec in needed), runs.left_out)


def targets_of(specs: Sequence[RunSpec], protocols: Sequence[str]) -> tuple[list[Target], list[tuple[str, str]]]:
    """Return the claims that the runs of a grid can complete, and the names of the other claims, under each protocol.

    The configurations of a claim come from its rule. Of each one, all seeds of the grid are needed.
    """
    by_configuration: dict[str, list[RunSpec]] = {}
    for spec in specs:
        by_configuration.setdefault(f"{spec.experiment} {spec.label} {spec.epochs}", []).append(spec)
    firsts = [seeds[0] for seeds in by_configuration.values()]
    targets, unreachable = [], []
    for protocol in protocols:
        for claim in CLAIMS:
            points = claim.points(protocol)
            wanted = [[spec for spec in firsts if spec.protocol == protocol and _is(spec, point)] for point in points]
            if not points or not all(wanted):
                unreachable.append((claim.id, protocol))
                continue
            runs = [run for found in wanted for spec in found[:1]
                    for run in by_configuration[f"{spec.experiment} {spec.label} {spec.epochs}"]]  # fmt: skip
            targets.append(Target(claim.id, protocol, frozenset(runs)))
    return targets, unreachable


def choose(
    targets: Sequence[Target],
    seconds: Mapping[RunSpec, float],
    budget: float = float("inf"),
    unreachable: Iterable[tuple[str, str]] = (),
) -> Choice:
    """Choose the claims to complete.

    seconds: the seconds of each run that has not ended; a run without seconds has ended. budget: the seconds of all
    chosen runs together, at most. Of two choices with as many claims, the one of fewer seconds is taken. The search
    ends after NODES steps with the best choice so far.
    """
    ready = [target for target in targets if not _missing([target], seconds)]
    numbers = {run: number for number, run in enumerate(seconds)}
    groups: dict[frozenset[int], int] = {}  # the number of claims that need exactly these runs, by number
    for target in targets:
        if target not in ready:
            runs = frozenset(numbers[run] for run in target.runs if run in seconds)
            groups[runs] = groups.get(runs, 0) + 1
    search = _Search(groups, list(seconds.values()), budget)
    search.go(frozenset(), dict(groups))
    best = {run for run, number in numbers.items() if number in search.best}
    completed = [target for target in targets if target not in ready and _missing([target], seconds) <= best]
    left = [target for target in targets if target not in ready and target not in completed]
    return Choice(tuple(ready), tuple(completed), tuple(left), tuple(unreachable), seconds)


class _Search:
    """The state of a search. best: the numbers of the runs of the best choice so far."""

    def __init__(self, groups: Mapping[frozenset[int], int], seconds: Sequence[float], budget: float):
        self._groups, self._seconds, self._budget = groups, seconds, budget
        self.best: frozenset[int] = frozenset()
        self._value, self._nodes = (0, 0.0), 0

    def go(self, chosen: frozenset[int], open_: Mapping[frozenset[int], int]) -> None:
        """Search the choices that contain ``chosen`` and otherwise only runs of the groups ``open_``."""
        self._nodes += 1
        spent = self._sum(chosen)
        complete = sum(count for runs, count in self._groups.items() if runs <= chosen)
        value = (complete, -spent)
        if value > self._value:
            self.best, self._value = chosen, value
        fitting = {}
        for runs, count in open_.items():
            cost = self._sum(runs - chosen)
            if not runs <= chosen and spent + cost <= self._budget:
                fitting[runs] = cost, count
        if self._nodes > NODES or complete + sum(count for _, count in fitting.values()) < self._value[0]:
            return
        if not fitting:
            return

        def rate(runs: frozenset[int]) -> float:
            gained = sum(count for other, count in self._groups.items() if other <= chosen | runs) - complete
            return gained / max(fitting[runs][0], 1e-9)

        first = max(fitting, key=rate)  # of equal ones the first, in the order of the report
        self.go(chosen | first, {runs: self._groups[runs] for runs in fitting if runs != first})
        self.go(chosen, {runs: self._groups[runs] for runs in fitting if runs != first})

    def _sum(self, runs: frozenset[int]) -> float:
        return sum(self._seconds[number] for number in sorted(runs))


def _is(spec: RunSpec, point: Mapping[str, Any]) -> bool:
    return all(getattr(spec, key) == value for key, value in point.items())


def _missing(targets: Iterable[Target], seconds: Mapping[RunSpec, float]) -> frozenset[RunSpec]:
    return frozenset(run for target in targets for run in target.runs if run in seconds)


def _sum(runs: Iterable[RunSpec], seconds: Mapping[RunSpec, float]) -> float:
    return sum(sorted(seconds[run] for run in runs))  # sorted: a set has another order in each process
