"""Rules that decide whether runs confirm a claim. A verdict never depends on looking at a curve."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import mean, median

from fastcifar.report.collection import Collection, Configuration, Run, run_ids
from fastcifar.report.statistics import of_mean, paired
from fastcifar.runs.outcome import Lines

CONFIRMED, REFUTED, NOT_RUN = "confirmed", "not confirmed", "not run"
ABOUT = 0.02  # accuracy: the report reads its accuracies off curves and treats 1 to 2 points as no difference
CHANCE = 0.12  # accuracy: with ten classes, the best of many epochs of guessing is a little above 0.1
OVERFIT = 1.10  # a run overfits if its last validation loss is at least this many times its lowest
TOGETHER = 0.15  # the validation loss may exceed the training loss by this share of the training loss
RESTLESS = 3.0  # an unstable validation loss has epoch-to-epoch steps this many times another network's


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim under a protocol. measured: the values that it follows from, in words."""

    verdict: str
    measured: str
    runs: tuple[str, ...] = ()
    """The ids of the runs that the verdict rests on."""


Judge = Callable[[Collection, str], Verdict]
"""Takes a collection and a protocol and returns a verdict."""


@dataclass(frozen=True)
class Rule:
    """A rule, which is called as its function ``judge`` is."""

    judge: Judge
    needs: tuple[Mapping[str, object], ...] = ()
    """The field values of the configurations that the verdict rests on; every configuration of the experiment's grid
    that has the values is meant. Empty where no certain run decides."""

    def __call__(self, collection: Collection, protocol: str) -> Verdict:
        return self.judge(collection, protocol)


def about(percent: float, **where: object) -> Rule:
    """Return the rule that the mean accuracy over seeds is about ``percent``.

    The mean must be within ABOUT, or its 95 % interval must reach there. where: the field values of one configuration.
    """

    def judge(collection: Collection, protocol: str) -> Verdict:
        configuration = _one(collection, protocol, where)
        if not configuration:
            return _not_run(where)
        interval = of_mean(configuration.known)
        half = 0.0 if interval.high is None else interval.high - interval.mean
        fits = abs(interval.mean - percent / 100) <= ABOUT + half
        spread = f" ± {100 * half:.2f} (95 %, {interval.n} seeds)" if half else " (one seed)"
        return Verdict(_verdict_of(fits), f"{100 * interval.mean:.2f} %{spread}", run_ids(configuration))

    return Rule(judge, (where,))


def better(more: dict[str, object], less: dict[str, object]) -> Rule:
    """Return the rule that the configuration ``more`` has a higher accuracy than ``less``, with 95 % confidence."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        a, b = _one(collection, protocol, more), _one(collection, protocol, less)
        if not a or not b:
            return _not_run(less if a else more)
        difference = paired(a, b)
        if difference is None or difference.n < 2:  # one seed may learn where another does not: too little evidence
            return Verdict(NOT_RUN, "fewer than two seeds in common", run_ids(a, b))
        why = "" if difference.above or difference.below else "; 0 is within"
        return Verdict(
            _verdict_of(difference.above), f"{difference.points()} points ({difference.how}){why}", run_ids(a, b)
        )

    return Rule(judge, (more, less))


def every(*parts: Rule) -> Rule:
    """Return the rule that all parts are confirmed. It is refuted where any part is refuted."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        verdicts = [part(collection, protocol) for part in parts]
        kinds = {verdict.verdict for verdict in verdicts}
        verdict = REFUTED if REFUTED in kinds else NOT_RUN if NOT_RUN in kinds else CONFIRMED
        runs = tuple(dict.fromkeys(run for part in verdicts for run in part.runs))
        return Verdict(verdict, "; ".join(part.measured for part in verdicts), runs)

    return Rule(judge, tuple(where for part in parts for where in part.needs))


def no_progress(**where: object) -> Rule:
    """Return the rule that no seed's accuracy exceeds CHANCE."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        configurations = collection.find(protocol=protocol, **where)
        if not configurations:
            return _not_run(where)
        best = max((accuracy or 0.0) for each in configurations for accuracy in each.accuracies)
        return Verdict(
            _verdict_of(best <= CHANCE), f"the best of all seeds is {100 * best:.2f} %", run_ids(*configurations)
        )

    return Rule(judge, (where,))


def overfits(wanted: bool, **where: object) -> Rule:
    """Return the rule that the last validation loss is at least OVERFIT times the lowest, or less if not ``wanted``."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        configuration = _one(collection, protocol, where)
        if not configuration:
            return _not_run(where)
        ratios = [_rise(run.lines) for run in configuration.runs.values()]
        rises = mean(ratios) >= OVERFIT
        measured = f"validation loss ends at {mean(ratios):.2f} times its lowest (mean of {len(ratios)} seeds)"
        return Verdict(_verdict_of(rises == wanted), measured, run_ids(configuration))

    return Rule(judge, (where,))


def together(**where: object) -> Rule:
    """Return the rule that, in the kept epoch, the validation loss exceeds the training loss by at most TOGETHER."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        configuration = _one(collection, protocol, where)
        if not configuration:
            return _not_run(where)
        gaps = [gap for gap in map(_gap, configuration.runs.values()) if gap is not None]
        if not gaps:
            return Verdict(REFUTED, "every seed diverged", run_ids(configuration))
        measured = f"validation loss is {100 * mean(gaps):+.1f} % of the training loss away, at the kept epoch"
        return Verdict(_verdict_of(mean(gaps) <= TOGETHER), measured, run_ids(configuration))

    return Rule(judge, (where,))


def unstable(one: dict[str, object], others: list[dict[str, object]]) -> Rule:
    """Return the rule that the validation loss of ``one`` is unstable.

    Its median step between epochs must be at least RESTLESS times that of any of the others.
    """

    def judge(collection: Collection, protocol: str) -> Verdict:
        configuration = _one(collection, protocol, one)
        rest = [each for each in (_one(collection, protocol, where) for where in others) if each]
        if not configuration or not rest:
            return _not_run(one if not configuration else others[0])
        own, most = _restlessness(configuration), max(_restlessness(each) for each in rest)
        measured = f"a step of its validation loss is {own:.3f} in the median; elsewhere at most {most:.3f}"
        return Verdict(_verdict_of(own >= RESTLESS * most), measured, run_ids(configuration, *rest))

    return Rule(judge, (one, *others))


def rising(key: str, *steps: dict[str, object]) -> Rule:
    """Return the rule that the mean of a metric in the last epoch increases from each configuration to the next."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        configurations = [_one(collection, protocol, where) for where in steps]
        complete = [each for each in configurations if each]
        if len(complete) < len(steps):
            return _not_run(steps[configurations.index(None)])
        lasts = [
            [_finite(run.lines, key)[-1] for run in each.runs.values() if _finite(run.lines, key)] for each in complete
        ]
        means = [mean(values) for values in lasts]
        return Verdict(
            _verdict_of(means == sorted(means)), " → ".join(f"{value:.3f}" for value in means), run_ids(*complete)
        )

    return Rule(judge, steps)


def calmer(one: dict[str, object], other: dict[str, object]) -> Rule:
    """Return the rule that the validation loss of ``one`` rises less above its lowest value than that of ``other``."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        a, b = _one(collection, protocol, one), _one(collection, protocol, other)
        if not a or not b:
            return _not_run(one if not a else other)
        mine, theirs = (mean(_rise(run.lines) for run in each.runs.values()) for each in (a, b))
        measured = f"validation loss ends at {mine:.2f} times its lowest, and {theirs:.2f} times without"
        return Verdict(_verdict_of(mine < theirs), measured, run_ids(a, b))

    return Rule(judge, (one, other))


def _seeds_matter(collection: Collection, protocol: str) -> Verdict:
    """Judge whether the accuracies of any configuration's seeds are more than ABOUT apart."""
    known = {each.label: each for each in collection.find(protocol=protocol) if len(each.known) > 1}
    if not known:
        return Verdict(NOT_RUN, "no configuration has two seeds")
    most = max(known.values(), key=lambda each: max(each.known) - min(each.known))
    apart = max(most.known) - min(most.known)
    measured = f"at most {100 * apart:.2f} points ({most.label}), of {len(known)} configurations"
    return Verdict(_verdict_of(apart > ABOUT), measured, run_ids(most))


seeds_matter = Rule(_seeds_matter)
"""The rule that the accuracies of some configuration's seeds are more than ABOUT apart."""


def none_surely_apart(**where: object) -> Rule:
    """Return the rule that no two configurations' accuracies are more than ABOUT apart with 95 % confidence."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        configurations = [each for each in collection.find(protocol=protocol, **where) if each.known]
        if len(configurations) < 2:
            return _not_run(where)
        means = {each.label: mean(each.known) for each in configurations}
        apart = []
        for a, b in combinations(configurations, 2):
            difference = paired(a, b)
            if difference is not None and difference.low is not None and difference.high is not None:
                apart.append(max(difference.low, -difference.high))
        if not apart:
            return Verdict(NOT_RUN, "fewer than two seeds in common", run_ids(*configurations))
        low, high = min(means.values()), max(means.values())
        measured = f"{len(configurations)} configurations, means from {100 * low:.2f} to {100 * high:.2f} %"
        return Verdict(_verdict_of(max(apart) <= ABOUT), measured, run_ids(*configurations))

    return Rule(judge, (where,))


def elsewhere(reason: str) -> Rule:
    """Return a rule that is never run, because run directories cannot show what the claim needs. reason: why."""
    return Rule(lambda collection, protocol: Verdict(NOT_RUN, reason))


def _one(collection: Collection, protocol: str, where: dict[str, object]) -> Configuration | None:
    """Return the configuration that has the field values, or None where no seed of it has an accuracy."""
    configurations = collection.find(protocol=protocol, **where)
    return next((each for each in configurations if each.known), None)


def _not_run(where: dict[str, object]) -> Verdict:
    return Verdict(NOT_RUN, "no finished run of " + ", ".join(f"{key} {value}" for key, value in where.items()))


def _verdict_of(confirmed: bool) -> str:
    return CONFIRMED if confirmed else REFUTED


def _finite(lines: Lines, key: str) -> list[float]:
    return [line[key] for line in lines if line[key] is not None]


def _rise(lines: Lines) -> float:
    """Return the last validation loss divided by the lowest; infinity where the last epoch has no finite loss."""
    losses = _finite(lines, "val_loss")
    return losses[-1] / min(losses) if losses and lines[-1]["val_loss"] is not None else float("inf")


def _gap(run: Run) -> float | None:
    kept = run.row["kept_epoch"]
    if kept is None:
        return None
    line = run.lines[kept - 1]
    return float(line["val_loss"] / line["train_loss"] - 1)


def _restlessness(configuration: Configuration) -> float:
    """Return the mean over seeds of the median relative change of the validation loss between epochs."""
    medians = []
    for run in configuration.runs.values():
        losses = _finite(run.lines, "val_loss")
        steps = [abs(b - a) / a for a, b in pairwise(losses) if a]
        medians.append(median(steps) if steps else 0.0)
    return mean(medians)
