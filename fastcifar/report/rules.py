"""The rules by which runs confirm a claim, or do not, or say nothing of it; never by eye."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import mean, median

from fastcifar.report.collection import Collection, Configuration, Run, run_ids
from fastcifar.report.statistics import of_mean, paired
from fastcifar.runs.outcome import Lines

CONFIRMED, REFUTED, NOT_RUN = "confirmed", "not confirmed", "not run"
ABOUT = 0.02  # the report reads its accuracies off curves and calls 1 to 2 points no matter
CHANCE = 0.12  # of ten classes; the best of many epochs of guessing is a little above a tenth
OVERFIT = 1.10  # times the lowest validation loss, at the end of a run
TOGETHER = 0.15  # share of the training loss by which the validation loss may exceed it
RESTLESS = 3.0  # times as large a step of the validation loss from epoch to epoch, as another network's


Rule = Callable[[Collection, str], "Verdict"]
"""of a collection and a protocol"""


@dataclass(frozen=True)
class Verdict:
    """Of a claim under a protocol."""

    verdict: str
    measured: str
    runs: tuple[str, ...] = ()
    """run-ids that it rests on"""


def about(percent: float, **where: object) -> Rule:
    def judge(collection: Collection, protocol: str) -> Verdict:
        found = _one(collection, protocol, where)
        if not found:
            return _not_run(where)
        interval = of_mean(found.known)
        half = 0.0 if interval.high is None else interval.high - interval.mean
        fits = abs(interval.mean - percent / 100) <= ABOUT + half
        spread = f" ± {100 * half:.2f} (95 %, {interval.n} seeds)" if half else " (one seed)"
        return Verdict(_said(fits), f"{100 * interval.mean:.2f} %{spread}", run_ids(found))

    return judge


def better(more: dict[str, object], less: dict[str, object]) -> Rule:
    def judge(collection: Collection, protocol: str) -> Verdict:
        a, b = _one(collection, protocol, more), _one(collection, protocol, less)
        if not a or not b:
            return _not_run(less if a else more)
        difference = paired(a, b)
        if difference is None or difference.n < 2:  # where one seed learns and another does not, one says nothing
            return Verdict(NOT_RUN, "fewer than two seeds in common", run_ids(a, b))
        why = "" if difference.above or difference.below else "; 0 is within"
        return Verdict(_said(difference.above), f"{difference.points()} points ({difference.how}){why}", run_ids(a, b))

    return judge


def every(*parts: Rule) -> Rule:
    """Confirmed where all parts are; not confirmed where any is not."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        found = [part(collection, protocol) for part in parts]
        kinds = {verdict.verdict for verdict in found}
        verdict = REFUTED if REFUTED in kinds else NOT_RUN if NOT_RUN in kinds else CONFIRMED
        runs = tuple(dict.fromkeys(run for part in found for run in part.runs))
        return Verdict(verdict, "; ".join(part.measured for part in found), runs)

    return judge


def no_progress(**where: object) -> Rule:
    def judge(collection: Collection, protocol: str) -> Verdict:
        found = collection.find(protocol=protocol, **where)
        if not found:
            return _not_run(where)
        best = max((accuracy or 0.0) for each in found for accuracy in each.accuracies)
        return Verdict(_said(best <= CHANCE), f"the best of all seeds is {100 * best:.2f} %", run_ids(*found))

    return judge


def overfits(wanted: bool, **where: object) -> Rule:
    """Whether the validation loss ends well above its lowest value while the training loss falls on."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        found = _one(collection, protocol, where)
        if not found:
            return _not_run(where)
        ratios = [_rise(run.lines) for run in found.runs.values()]
        rises = mean(ratios) >= OVERFIT
        measured = f"validation loss ends at {mean(ratios):.2f} times its lowest (mean of {len(ratios)} seeds)"
        return Verdict(_said(rises == wanted), measured, run_ids(found))

    return judge


def together(**where: object) -> Rule:
    """Whether validation loss stays near training loss in the kept epoch."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        found = _one(collection, protocol, where)
        if not found:
            return _not_run(where)
        gaps = [gap for gap in map(_gap, found.runs.values()) if gap is not None]
        if not gaps:
            return Verdict(REFUTED, "every seed diverged", run_ids(found))
        measured = f"validation loss is {100 * mean(gaps):+.1f} % of the training loss away, at the kept epoch"
        return Verdict(_said(mean(gaps) <= TOGETHER), measured, run_ids(found))

    return judge


def unstable(one: dict[str, object], others: list[dict[str, object]]) -> Rule:
    """Whether one's validation loss moves more from epoch to epoch than every other's."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        found = _one(collection, protocol, one)
        rest = [each for each in (_one(collection, protocol, where) for where in others) if each]
        if not found or not rest:
            return _not_run(one if not found else others[0])
        own, most = _restlessness(found), max(_restlessness(each) for each in rest)
        measured = f"a step of its validation loss is {own:.3f} in the median; elsewhere at most {most:.3f}"
        return Verdict(_said(own >= RESTLESS * most), measured, run_ids(found, *rest))

    return judge


def rising(key: str, *steps: dict[str, object]) -> Rule:
    """Whether a metric of the last epoch is larger from each configuration to the next, in the mean over seeds."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        found = [_one(collection, protocol, where) for where in steps]
        there = [each for each in found if each]
        if len(there) < len(steps):
            return _not_run(steps[found.index(None)])
        lasts = [
            [_finite(run.lines, key)[-1] for run in each.runs.values() if _finite(run.lines, key)] for each in there
        ]
        means = [mean(values) for values in lasts]
        return Verdict(_said(means == sorted(means)), " → ".join(f"{value:.3f}" for value in means), run_ids(*there))

    return judge


def calmer(one: dict[str, object], other: dict[str, object]) -> Rule:
    """Whether one's validation loss rises less above its lowest value than the other's."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        a, b = _one(collection, protocol, one), _one(collection, protocol, other)
        if not a or not b:
            return _not_run(one if not a else other)
        mine, theirs = (mean(_rise(run.lines) for run in each.runs.values()) for each in (a, b))
        measured = f"validation loss ends at {mine:.2f} times its lowest, and {theirs:.2f} times without"
        return Verdict(_said(mine < theirs), measured, run_ids(a, b))

    return judge


def seeds_matter(collection: Collection, protocol: str) -> Verdict:
    """Whether the seeds of any configuration are more than ABOUT apart."""
    known = {each.label: each for each in collection.find(protocol=protocol) if len(each.known) > 1}
    if not known:
        return Verdict(NOT_RUN, "no configuration has two seeds")
    most = max(known.values(), key=lambda each: max(each.known) - min(each.known))
    apart = max(most.known) - min(most.known)
    measured = f"at most {100 * apart:.2f} points ({most.label}), of {len(known)} configurations"
    return Verdict(_said(apart > ABOUT), measured, run_ids(most))


def none_surely_apart(**where: object) -> Rule:
    """Whether no two configurations' accuracies are surely more than ABOUT apart."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        found = [each for each in collection.find(protocol=protocol, **where) if each.known]
        if len(found) < 2:
            return _not_run(where)
        means = {each.label: mean(each.known) for each in found}
        apart = []
        for a, b in combinations(found, 2):
            difference = paired(a, b)
            if difference is not None and difference.low is not None and difference.high is not None:
                apart.append(max(difference.low, -difference.high))
        if not apart:
            return Verdict(NOT_RUN, "fewer than two seeds in common", run_ids(*found))
        low, high = min(means.values()), max(means.values())
        measured = f"{len(found)} configurations, means from {100 * low:.2f} to {100 * high:.2f} %"
        return Verdict(_said(max(apart) <= ABOUT), measured, run_ids(*found))

    return judge


def elsewhere(reason: str) -> Rule:
    """For what run directories cannot show."""
    return lambda collection, protocol: Verdict(NOT_RUN, reason)


# what they are made of


def _one(collection: Collection, protocol: str, where: dict[str, object]) -> Configuration | None:
    """The configuration that has the fields, where any of its seeds has an accuracy or a loss to show."""
    found = collection.find(protocol=protocol, **where)
    return next((each for each in found if each.known), None)


def _not_run(where: dict[str, object]) -> Verdict:
    return Verdict(NOT_RUN, "no finished run of " + ", ".join(f"{key} {value}" for key, value in where.items()))


def _said(confirmed: bool) -> str:
    return CONFIRMED if confirmed else REFUTED


def _finite(lines: Lines, key: str) -> list[float]:
    return [line[key] for line in lines if line[key] is not None]


def _rise(lines: Lines) -> float:
    """The last validation loss over the lowest one; infinite where there is none any more."""
    losses = _finite(lines, "val_loss")
    return losses[-1] / min(losses) if losses and lines[-1]["val_loss"] is not None else float("inf")


def _gap(run: Run) -> float | None:
    kept = run.row["kept_epoch"]
    if kept is None:
        return None
    line = run.lines[kept - 1]
    return float(line["val_loss"] / line["train_loss"] - 1)


def _restlessness(configuration: Configuration) -> float:
    """Over the seeds, the mean of the median change of the validation loss between epochs, relative to the loss."""
    found = []
    for run in configuration.runs.values():
        losses = _finite(run.lines, "val_loss")
        steps = [abs(b - a) / a for a, b in pairwise(losses) if a]
        found.append(median(steps) if steps else 0.0)
    return mean(found)
