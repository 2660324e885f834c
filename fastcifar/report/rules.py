"""Rules that decide what runs say about a claim. A verdict never depends on looking at a curve."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import mean, median

import numpy as np

from fastcifar.report.collection import Collection, Configuration, Run, run_ids
from fastcifar.report.statistics import CONFIDENCE, Interval, of_images, of_mean, paired
from fastcifar.report.verdict import (
    CONFIRMED,
    CONTRADICTED,
    LEAST_SEEDS,
    NOT_RUN,
    UNDECIDED,
    Verdict,
    joined,
    of_direction,
    of_shape,
    of_value,
)
from fastcifar.runs.outcome import Lines

ABOUT = 0.02  # accuracy: the report reads its accuracies off curves and treats 1 to 2 points as no difference
CHANCE = 0.12  # accuracy: with ten classes, the best of many epochs of guessing is a little above 0.1
OVERFIT = 1.10  # a run overfits if its last validation loss is at least this many times its lowest
TOGETHER = 0.15  # the validation loss may exceed the training loss by this share of the training loss
RESTLESS = 3.0  # an unstable validation loss has epoch-to-epoch steps this many times another network's

Judge = Callable[[Collection, str], Verdict]
"""Takes a collection and a protocol and returns a verdict."""
Where = Mapping[str, object]


@dataclass(frozen=True)
class Rule:
    """A rule, which is called as its function ``judge`` is."""

    judge: Judge
    needs: tuple[Where, ...] = ()
    """The field values of the configurations that the verdict rests on; every configuration of the experiment's grid
    that has the values is meant. Empty where no certain run decides."""

    def __call__(self, collection: Collection, protocol: str) -> Verdict:
        return self.judge(collection, protocol)


def about(percent: float, **where: object) -> Rule:
    """Return the rule that the mean accuracy over seeds is ``percent``, within ABOUT: see `verdict.of_value`.

    where: the field values of one configuration.
    """

    def judge(collection: Collection, protocol: str) -> Verdict:
        configuration = _one(collection, protocol, where)
        if not configuration:
            return _not_run(where)
        return _about(of_mean(configuration.known), percent, run_ids(configuration))

    return Rule(judge, (where,))


def about_on_test(percent: float, **where: object) -> Rule:
    """Return the rule that the mean accuracy on the dataset's own test images is ``percent``, within ABOUT.

    The interval holds for other seeds and for other images. where: the field values of one configuration.
    """

    def judge(collection: Collection, protocol: str) -> Verdict:
        tested = (each.tests for each in collection.find(protocol=protocol, **where))
        tests = next((each for each in tested if each), None)
        if not tests:
            return _not_run(where, "no run that counts and predicts the test images")
        right = [each.right().astype(np.float64) for each in tests.values()]
        return _about(of_images(right), percent, tuple(tests), f"; {len(right[0]):,} images, not Kaggle's")

    return Rule(judge)


def _about(interval: Interval, percent: float, runs: tuple[str, ...], images: str = "") -> Verdict:
    """Judge whether a mean accuracy is ``percent``, within ABOUT. images: a note on the images, in the brackets."""
    kind, decides, p = of_value(interval, percent / 100, ABOUT)
    half = "" if interval.high is None else f" ± {100 * (interval.high - interval.mean):.2f} (95 %"
    spread = f"{half}, {interval.n} seeds{images})" if half else f" (one seed{images})"
    return Verdict(kind, _said(f"{100 * interval.mean:.2f} %{spread}", decides), runs, p)


def better(more: Where, less: Where) -> Rule:
    """Return the rule that the configuration ``more`` has a higher accuracy than ``less``: `verdict.of_direction`."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        a, b = _one(collection, protocol, more), _one(collection, protocol, less)
        if not a or not b:
            return _not_run(less if a else more)
        difference = paired(a, b)
        if difference is None:
            return Verdict(NOT_RUN, "no seed in common", run_ids(a, b))
        kind, decides, p = of_direction(difference)
        return Verdict(kind, _said(f"{difference.points()} points ({difference.how})", decides), run_ids(a, b), p)

    return Rule(judge, (more, less))


def every(*parts: Rule) -> Rule:
    """Return the rule that all parts are confirmed: see `verdict.joined`."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        return joined([part(collection, protocol) for part in parts])

    return Rule(judge, tuple(where for part in parts for where in part.needs))


def no_progress(**where: object) -> Rule:
    """Return the rule that each seed's accuracy is at most CHANCE."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        configurations = collection.find(protocol=protocol, **where)
        if not configurations:
            return _not_run(where)
        best = [accuracy or 0.0 for each in configurations for accuracy in each.accuracies]
        measured = f"the best of all seeds is {100 * max(best):.2f} %"
        return _shape([accuracy <= CHANCE for accuracy in best], measured, *configurations)

    return Rule(judge, (where,))


def overfits(wanted: bool, **where: object) -> Rule:
    """Return the rule that each last validation loss is at least OVERFIT times the lowest; not ``wanted``: less."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        configuration = _one(collection, protocol, where)
        if not configuration:
            return _not_run(where)
        ratios = [_rise(run.lines) for run in configuration.runs.values()]
        measured = f"validation loss ends at {_values(ratios, '.2f')} times its lowest"
        return _shape([(ratio >= OVERFIT) == wanted for ratio in ratios], measured, configuration)

    return Rule(judge, (where,))


def together(**where: object) -> Rule:
    """Return the rule that each kept epoch's validation loss exceeds the training loss by at most TOGETHER."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        configuration = _one(collection, protocol, where)
        if not configuration:
            return _not_run(where)
        gaps = [_gap(run) for run in configuration.runs.values()]
        measured = f"validation loss is {_values([100 * gap for gap in gaps], '+.1f')} % of the training loss away"
        return _shape([gap <= TOGETHER for gap in gaps], f"{measured}, at the kept epoch", configuration)

    return Rule(judge, (where,))


def unstable(one: Where, others: Sequence[Where]) -> Rule:
    """Return the rule that the validation loss of ``one`` is unstable.

    Its median step between epochs must be, for each seed, at least RESTLESS times the mean one of any of the others.
    """

    def judge(collection: Collection, protocol: str) -> Verdict:
        configuration = _one(collection, protocol, one)
        rest = [each for each in (_one(collection, protocol, where) for where in others) if each]
        if not configuration or not rest:
            return _not_run(one if not configuration else others[0])
        own, most = _restlessness(configuration), max(mean(_restlessness(each)) for each in rest)
        measured = f"a step of its validation loss is {_values(own, '.3f')} in the median; elsewhere at most {most:.3f}"
        return _shape([step >= RESTLESS * most for step in own], measured, configuration, *rest)

    return Rule(judge, (one, *others))


def rising(key: str, *steps: Where) -> Rule:
    """Return the rule that, for each seed, a metric's last value increases from each configuration to the next."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        configurations = [_one(collection, protocol, where) for where in steps]
        complete = [each for each in configurations if each]
        if len(complete) < len(steps):
            return _not_run(steps[configurations.index(None)])
        lasts = [
            [values[-1] for each in complete if (values := _finite(each.runs[seed].lines, key))]
            for seed in complete[0].runs
            if all(seed in each.runs for each in complete)
        ]
        lasts = [last for last in lasts if len(last) == len(complete)]
        means = [mean(values) for values in zip(*lasts, strict=True)]
        measured = " → ".join(f"{value:.3f}" for value in means)
        return _shape([last == sorted(last) for last in lasts], measured, *complete)

    return Rule(judge, steps)


def calmer(one: Where, other: Where) -> Rule:
    """Return the rule that, for each seed, the validation loss of ``one`` rises less above its lowest value."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        a, b = _one(collection, protocol, one), _one(collection, protocol, other)
        if not a or not b:
            return _not_run(one if not a else other)
        pairs = [(_rise(a.runs[seed].lines), _rise(b.runs[seed].lines)) for seed in a.runs if seed in b.runs]
        mine, theirs = [_values([pair[n] for pair in pairs], ".2f") for n in range(2)]
        measured = f"validation loss ends at {mine} times its lowest, and {theirs} times without"
        return _shape([mine < theirs for mine, theirs in pairs], measured, a, b)

    return Rule(judge, (one, other))


def _seeds_matter(collection: Collection, protocol: str) -> Verdict:
    """Judge whether the accuracies of any configuration's seeds are more than ABOUT apart."""
    known = {each.label: each for each in collection.find(protocol=protocol) if len(each.known) >= LEAST_SEEDS}
    if not known:
        return Verdict(NOT_RUN, f"no configuration has {LEAST_SEEDS} seeds")
    most = max(known.values(), key=lambda each: max(each.known) - min(each.known))
    apart = max(most.known) - min(most.known)
    measured = f"at most {100 * apart:.2f} points ({most.label}), of {len(known)} configurations"
    # that seeds differ is seen; that they never do would need every configuration
    return Verdict(CONFIRMED if apart > ABOUT else UNDECIDED, measured, run_ids(most))


seeds_matter = Rule(_seeds_matter)
"""The rule that the accuracies of some configuration's seeds are more than ABOUT apart."""


def none_apart(**where: object) -> Rule:
    """Return the rule that no two configurations' accuracies are more than ABOUT apart.

    It is confirmed where the 95 % interval of every difference is within ABOUT. It is contradicted where an interval is
    wholly outside at a confidence that is raised for the number of pairs (Bonferroni).
    """

    def judge(collection: Collection, protocol: str) -> Verdict:
        configurations = [each for each in collection.find(protocol=protocol, **where) if each.known]
        pairs = list(combinations(configurations, 2))
        if not pairs:
            return _not_run(where)
        means = [mean(each.known) for each in configurations]
        measured = f"{len(means)} configurations, means from {100 * min(means):.2f} to {100 * max(means):.2f} %"
        sure = 1 - (1 - CONFIDENCE) / len(pairs)
        kinds = {kind for a, b in pairs for kind in _apart(a, b, sure)}
        kind = CONTRADICTED if CONTRADICTED in kinds else UNDECIDED if UNDECIDED in kinds else CONFIRMED
        return Verdict(kind, measured, run_ids(*configurations))

    return Rule(judge, (where,))


def _apart(a: Configuration, b: Configuration, sure: float) -> set[str]:
    """Return what the difference of two configurations says, at 95 % and at a raised confidence."""
    usual, raised = paired(a, b), paired(a, b, confidence=sure)
    if usual is None or raised is None:
        return {UNDECIDED}
    kinds = {of_value(usual, 0.0, ABOUT)[0]} - {CONTRADICTED} or {UNDECIDED}
    return kinds | {of_value(raised, 0.0, ABOUT)[0]} & {CONTRADICTED}


def elsewhere(reason: str) -> Rule:
    """Return a rule that is never run, because run directories cannot show what the claim needs. reason: why."""
    return Rule(lambda collection, protocol: Verdict(NOT_RUN, reason))


def _one(collection: Collection, protocol: str, where: Where) -> Configuration | None:
    """Return the configuration that has the field values, or None where no seed of it has an accuracy."""
    configurations = collection.find(protocol=protocol, **where)
    return next((each for each in configurations if each.known), None)


def _not_run(where: Where, lacking: str = "no run that counts") -> Verdict:
    return Verdict(NOT_RUN, f"{lacking} of " + ", ".join(f"{key} {value}" for key, value in where.items()))


def _shape(shown: Sequence[bool], measured: str, *configurations: Configuration) -> Verdict:
    kind, decides = of_shape(shown)
    return Verdict(kind, _said(measured, decides), run_ids(*configurations))


def _said(measured: str, decides: str) -> str:
    return f"{measured}; {decides}" if decides else measured


def _values(values: Sequence[float], form: str) -> str:
    """Return the least and the largest value as text; one text where they are the same."""
    ends = dict.fromkeys(format(value, form) for value in (min(values), max(values))) if values else ["?"]
    return " to ".join(ends)


def _finite(lines: Lines, key: str) -> list[float]:
    return [line[key] for line in lines if line[key] is not None]


def _rise(lines: Lines) -> float:
    """Return the last validation loss divided by the lowest; infinity where the last epoch has no finite loss."""
    losses = _finite(lines, "val_loss")
    return losses[-1] / min(losses) if losses and lines[-1]["val_loss"] is not None else float("inf")


def _gap(run: Run) -> float:
    """Return the kept epoch's validation loss over its training loss, minus 1; infinity without a kept epoch."""
    kept = run.row["kept_epoch"]
    if kept is None:
        return float("inf")
    line = run.lines[kept - 1]
    return float(line["val_loss"] / line["train_loss"] - 1)


def _restlessness(configuration: Configuration) -> list[float]:
    """Return the median relative change of the validation loss between epochs, for each seed."""
    medians = []
    for run in configuration.runs.values():
        losses = _finite(run.lines, "val_loss")
        steps = [abs(b - a) / a for a, b in pairwise(losses) if a]
        medians.append(median(steps) if steps else 0.0)
    return medians
