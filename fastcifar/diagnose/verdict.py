"""The verdicts on suspects, their thresholds, and the statistics that they are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, nan, sqrt
from statistics import mean
from typing import Any

from scipy import stats

from fastcifar.diagnose.suspects import TITLES
from fastcifar.show.text import printable

GUILTY, ACQUITTED, UNDECIDED, NOT_RUN = "guilty", "acquitted", "not decided here", "not run"
CLEAR = 2.0
"""Ratio of two spreads above which one is clearly larger. A factor of 2 is seen in a picture without measuring."""
SMALL = 0.01
"""Share of the loss below which a spread hardly shows: one pixel in a hundred of an axis that begins at 0."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Judgement:
    """The verdict on a suspect. sentence: one sentence for people, which names the suspect, the verdict, the numbers
    and the rule. numbers: the same numbers for JSON.
    """

    suspect: str
    verdict: str
    sentence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


def judgement(suspect: str, verdict: str, facts: str, why: str, numbers: Mapping[str, Any]) -> Judgement:
    """Return a judgement with its sentence. facts: what was measured. why: the rule that led to the verdict."""
    sentence = f"{TITLES[suspect].capitalize()}: {verdict}, as {facts}; {why}."
    return Judgement(suspect, verdict, printable(sentence), numbers)


def no_conclusion(suspect: str, lost: Sequence[str]) -> Judgement:
    """Return a judgement where losses were not finite. lost: the names of what was measured."""
    text = f"no conclusion is possible, as validation losses were not finite ({'; '.join(lost)})"
    return Judgement(suspect, UNDECIDED, f"{TITLES[suspect].capitalize()}: {UNDECIDED}; {text}.")


def not_run(suspect: str) -> Judgement:
    """Return a judgement of a suspect that --suspects left out."""
    return Judgement(suspect, NOT_RUN, f"{TITLES[suspect].capitalize()}: {NOT_RUN}; --suspects leaves it out.")


def headline(judgements: Sequence[Judgement]) -> str:
    """Return one sentence with the names of the suspects by verdict."""
    by = {verdict: [one.suspect for one in judgements if one.verdict == verdict]
          for verdict in (GUILTY, ACQUITTED, UNDECIDED, NOT_RUN)}  # fmt: skip
    return "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in by.items() if names).capitalize() + "."


def jump(losses: Sequence[float]) -> float:
    """Return the jump of successive losses: the typical change in a step that the change before does not predict.

    It is the square root of half the mean square difference of successive changes. For random changes, it is their
    standard deviation. For a loss that rises or falls evenly, it is 0 (J. von Neumann et al., 'The mean square
    successive difference', 1941). NaN without three losses, or where one is not finite.
    """
    squares = [(c - 2 * b + a) ** 2 for a, b, c in zip(losses, losses[1:], losses[2:], strict=False)]
    return sqrt(mean(squares) / 2) if squares and all(map(isfinite, squares)) else nan


def freedom(losses: int) -> float:
    """Return the degrees of freedom of the `jump` of n losses: 2 (n - 2) / 3.

    Neighbouring differences of random changes have a correlation of -1/2, so that the sum of n - 2 squares varies as
    that of 2 (n - 2) / 3 independent ones (1 + 2 / 4 = 3 / 2 times the variance).
    """
    return 2 * (losses - 2) / 3


@dataclass(frozen=True)
class Spread:
    """A standard deviation of a loss, or a `jump`. degrees: its degrees of freedom. loss: the loss it belongs to."""

    value: float
    degrees: float
    loss: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval, by the chi-squared distribution."""
        low, high = (float(stats.chi2.ppf(p, self.degrees)) for p in ((1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2))
        return self.value * sqrt(self.degrees / low), self.value * sqrt(self.degrees / high)

    @property
    def text(self) -> str:
        """The value with its interval, for people."""
        return f"{short(self.value)} [{', '.join(map(short, self.interval))}]"

    @property
    def share(self) -> float:
        """The share of the loss."""
        return self.value / self.loss if self.loss else inf


@dataclass(frozen=True)
class Ratio:
    """The ratio of two spreads with its 95 % interval, by the F distribution, and the verdict on the larger one.

    Guilty: the whole interval is above CLEAR, and the spread's own above SMALL of its loss. Acquitted: the ratio's is
    below CLEAR, or the spread's own below SMALL of its loss. The intervals hold for independent normal values.
    """

    spread: Spread
    usual: Spread

    @property
    def value(self) -> float:
        """The ratio; infinite where the usual spread is 0, and 0 where both are."""
        return self.spread.value / self.usual.value if self.usual.value else (inf if self.spread.value else 0.0)

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of the ratio."""
        degrees = self.spread.degrees, self.usual.degrees
        high, low = (float(stats.f.ppf(p, *degrees)) for p in ((1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2))
        return self.value / sqrt(high), self.value / sqrt(low)

    @property
    def text(self) -> str:
        """The ratio with its interval, for people."""
        if self.value in (0, inf):
            return short(self.value)
        return f"{short(self.value)} [{', '.join(map(short, self.interval))}]"

    @property
    def verdict(self) -> str:
        """The verdict by CLEAR and SMALL."""
        low, high = self.spread.interval
        seen = SMALL * self.spread.loss
        if high < seen or self.interval[1] < CLEAR:
            return ACQUITTED
        return GUILTY if low > seen and self.interval[0] > CLEAR else UNDECIDED

    @property
    def why(self) -> str:
        """The rule that leads to the verdict, as a part of a sentence."""
        if self.verdict == GUILTY:
            return f"that is above {CLEAR:g} times, and above {100 * SMALL:g} % of the loss"
        if self.verdict == UNDECIDED:
            return f"the intervals do not decide between more and less than {CLEAR:g} times and {100 * SMALL:g} % of it"
        if self.spread.interval[1] < SMALL * self.spread.loss:
            return f"less than {100 * SMALL:g} % of the loss hardly shows"
        return f"that is below {CLEAR:g} times"

    def numbers(self) -> dict[str, Any]:
        """Return the numbers for JSON."""
        return {
            "spread": self.spread.value, "spread_interval": self.spread.interval, "usual": self.usual.value,
            "usual_interval": self.usual.interval, "ratio": self.value, "ratio_interval": self.interval,
            "share_of_loss": self.spread.share,
        }  # fmt: skip


def short(value: float) -> str:
    """Return a number with two digits, or all digits before the point."""
    return f"{value:.0f}" if abs(value) >= 10 and isfinite(value) else f"{value:.2g}"
