"""Verdicts, and the tests that give them: of a value, of a direction, and of a shape that each seed shows or not.

An interval has 95 % confidence, so 2.5 % on each side. A verdict of a value or a direction is therefore wrongly
"confirmed" at most once in forty claims that are false.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fastcifar.report.statistics import Interval, seeds_for
from fastcifar.show.text import counted

CONFIRMED, CONTRADICTED, UNDECIDED, NOT_RUN = "confirmed", "contradicted", "undecided", "not run"
VERDICTS = (CONFIRMED, CONTRADICTED, UNDECIDED, NOT_RUN)
DECIDED = (CONFIRMED, CONTRADICTED)
LEAST_SEEDS = 3
"""The seeds that must agree before a shape is judged."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim under a protocol. measured: the values that it follows from, in words."""

    verdict: str
    measured: str
    runs: tuple[str, ...] = ()
    """The ids of the runs that the verdict rests on."""
    p: float | None = None
    """The probability of such evidence where the opposite is true; None for a shape, and where nothing is decided."""


def of_value(interval: Interval, target: float, margin: float) -> tuple[str, str, float | None]:
    """Judge whether a mean is ``target`` within ``margin``: a verdict, what would decide it, and the p-value.

    It is confirmed where the whole interval is within the margin (two one-sided tests, D. Schuirmann, 1987),
    contradicted where the whole interval is outside, and undecided otherwise.
    """
    if interval.low is None or interval.high is None:
        return UNDECIDED, "one seed shows no spread; two at least are needed", None
    low, high = target - margin, target + margin
    if low <= interval.low and interval.high <= high:
        return CONFIRMED, "", max(interval.beyond(low), interval.beyond(high))
    if interval.high < low or interval.low > high:
        return CONTRADICTED, "", interval.beyond(low if interval.high < low else high)
    return UNDECIDED, _more(interval, abs(margin - abs(interval.mean - target))), None


def of_direction(interval: Interval) -> tuple[str, str, float | None]:
    """Judge whether a difference is above 0: a verdict, what would decide it, and the p-value."""
    if interval.low is None:
        return UNDECIDED, "one seed in common shows no spread; two at least are needed", None
    if interval.above or interval.below:
        return CONFIRMED if interval.above else CONTRADICTED, "", interval.beyond(0.0)
    return UNDECIDED, _more(interval, abs(interval.mean)), None


def of_shape(shown: Sequence[bool]) -> tuple[str, str]:
    """Judge whether every seed shows a shape: a verdict, and what would decide it. At least LEAST_SEEDS must agree."""
    if len(shown) < LEAST_SEEDS:
        return UNDECIDED, f"{counted(len(shown), 'seed')}; {LEAST_SEEDS} that agree are needed"
    if len(set(shown)) > 1:
        return UNDECIDED, f"{sum(shown)} of {len(shown)} seeds show it; they must agree"
    return CONFIRMED if shown[0] else CONTRADICTED, ""


def joined(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict on a claim of several parts: contradicted where a part is, confirmed where all parts are."""
    kinds = {verdict.verdict for verdict in verdicts}
    order = (CONTRADICTED, NOT_RUN, UNDECIDED, CONFIRMED)
    kind = next(kind for kind in order if kind in kinds)
    runs = tuple(dict.fromkeys(run for part in verdicts for run in part.runs))
    deciding = [part.p for part in verdicts if part.verdict == kind and part.p is not None]
    p = None if kind not in DECIDED or not deciding else max(deciding) if kind == CONFIRMED else min(deciding)
    return Verdict(kind, "; ".join(part.measured for part in verdicts), runs, p)


def holm(values: Sequence[float], rate: float = 0.05) -> list[bool]:
    """Return which of the p-values are significant together, with at most ``rate`` chance of any false alarm.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    kept = [False] * len(values)
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        if values[place] > rate / (len(values) - rank):
            break
        kept[place] = True
    return kept


def _more(interval: Interval, half: float) -> str:
    """Return what would decide: the seeds whose interval is ``half`` wide on each side, at the present spread."""
    if interval.images and half <= interval.images:
        return "more seeds alone will not decide it, but more images may"
    needed = seeds_for(interval.spread or 0.0, (half**2 - interval.images**2) ** 0.5)
    if needed is None or needed <= interval.n:
        return "more seeds alone will hardly decide it, as it is near the bound"
    return f"about {needed} seeds would decide it, at a standard deviation of {100 * (interval.spread or 0):.2f} points"
