"""95 % intervals by Student's t: of a mean over seeds, and of a paired difference, widened by the choice of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fastcifar.experiments import PROTOCOLS
from fastcifar.report.collection import Configuration, Run, matched

CONFIDENCE = 0.95
MOST_SEEDS = 1000  # seeds that `seeds_for` considers


@dataclass(frozen=True)
class Interval:
    """A mean in [-1, 1] with its interval. low and high are None for a single value, which shows no spread."""

    mean: float
    low: float | None
    high: float | None
    n: int
    """The number of values: seeds, or pairs of seeds."""
    how: str
    spread: float | None = None
    """The standard deviation (n - 1) of the values; None for a single one."""
    images: float = 0.0
    """The part of half the interval that comes from the choice of images. More seeds do not reduce it."""

    @property
    def above(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low is not None and self.low > 0

    @property
    def below(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high is not None and self.high < 0

    def points(self) -> str:
        """Return the interval in percentage points, for people: "+4.2 [+3.1, +5.3]"."""
        if self.low is None or self.high is None:
            return f"{100 * self.mean:+.2f}"
        return f"{100 * self.mean:+.2f} [{100 * self.low:+.2f}, {100 * self.high:+.2f}]"

    def beyond(self, bound: float) -> float:
        """Return the one-sided p-value of a true mean on the other side of ``bound`` than this mean.

        It is 1 for a single value.
        """
        if self.high is None or self.n < 2:
            return 1.0
        error = (self.high - self.mean) / quantile(self.n)
        return float(stats.t.sf(abs(self.mean - bound) / error, self.n - 1)) if error else 0.0


@cache
def quantile(n: int, confidence: float = CONFIDENCE) -> float:
    """Return the factor of the standard error of n values' mean, n >= 2, that makes half of its two-sided interval."""
    return float(stats.t.ppf((1 + confidence) / 2, n - 1))


def of_mean(values: Sequence[float], images_error: float = 0.0, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of the mean of independent values, one at least: plus and minus t(n - 1) standard errors.

    images_error: the standard error of the mean through the choice of images. The two parts are independent, so the
    roots of the squares of their half widths add up.
    """
    centre, n = mean(values), len(values)
    if n < 2:
        return Interval(centre, None, None, n, "one value")
    spread = stdev(values)
    seeds, images = (
        quantile(n, confidence) * spread / n**0.5,
        float(stats.norm.ppf((1 + confidence) / 2)) * images_error,
    )
    half = (seeds**2 + images**2) ** 0.5
    how = f"t, {n} seeds" + (" and the choice of images" if images_error else "")
    return Interval(centre, centre - half, centre + half, n, how, spread, images)


def seeds_for(spread: float, half: float) -> int | None:
    """Return the least number of seeds whose interval is at most ``half`` wide on each side, at a standard deviation.

    None where more than MOST_SEEDS would be needed.
    """
    return next((n for n in range(2, MOST_SEEDS + 1) if quantile(n) * spread / n**0.5 <= half), None)


def paired(a: Configuration, b: Configuration, images: str = "own", confidence: float = CONFIDENCE) -> Interval | None:
    """Return the accuracy of ``a`` minus that of ``b``, over the seeds that both have; None without such seeds.

    images: "clean"; "augmented", under each configuration's own training transform; or "own", the images that each
    protocol validates on. Where both have predictions of the same images, the accuracies are those of the kept weights,
    and the interval holds for other images, too. Otherwise "own" takes the recorded accuracies, and the other two
    return None.
    """
    augmented = [PROTOCOLS[each.protocol].augment_validation for each in (a, b)]
    if images != "own":
        augmented = [images == "augmented"] * 2
    known = matched(a, b)
    if not known:
        return None
    by_image = [_by_image(x, y, *augmented) for x, y, _, _ in known]
    found = [difference for difference in by_image if difference is not None]
    if len(found) == len(known):
        return of_images(found, confidence)
    if images != "own":
        return None
    return of_mean([mine - theirs for _, _, mine, theirs in known], confidence=confidence)


def of_images(measured: Sequence[NDArray[np.float64]], confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of a mean over seeds and images that holds for other seeds and for other images.

    measured: for each seed, (images,). Of an accuracy: whether the model is right. Of a paired difference: whether the
    first model is right minus whether the second is, so -1, 0 or 1. A bootstrap over three seeds would be far too
    narrow: it never leaves the range of the three.
    """
    return of_mean([float(values.mean()) for values in measured], images_error(measured), confidence)


def images_error(measured: Sequence[NDArray[np.float64]]) -> float:
    """Return the standard error, through the choice of images, of a mean over seeds. measured: as in `of_images`."""
    if len({len(values) for values in measured}) == 1:  # the images may be the same for all seeds
        return float(np.mean(measured, axis=0).std() / len(measured[0]) ** 0.5)
    return float(sum(values.var() / len(values) for values in measured) ** 0.5 / len(measured))


def mean_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean of values, and their standard deviation (n - 1); None for a single value."""
    return mean(values), stdev(values) if len(values) > 1 else None


def _by_image(a: Run, b: Run, a_augmented: bool, b_augmented: bool) -> NDArray[np.float64] | None:
    """Return (images,): right by a minus right by b; None where the two runs lack predictions of the same images."""
    x, y = a.predictions, b.predictions
    if x is None or y is None or not np.array_equal(x.ids, y.ids):
        return None
    return x.right(a_augmented).astype(np.float64) - y.right(b_augmented)
