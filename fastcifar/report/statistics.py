"""Intervals of 95 %: of a mean over seeds by Student's t, of a paired difference by a bootstrap of seeds and images."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fastcifar.experiments import PROTOCOLS
from fastcifar.report.collection import Configuration, Run, matched

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 20230301  # of the resampling: the same runs give the same intervals


@dataclass(frozen=True)
class Interval:
    """A mean in [-1, 1] and where it may be; low and high are None where one value alone says nothing of spread."""

    mean: float
    low: float | None
    high: float | None
    n: int
    """values: seeds, or pairs"""
    how: str

    @property
    def above(self) -> bool:
        """Whether all of it is above 0."""
        return self.low is not None and self.low > 0

    @property
    def below(self) -> bool:
        """Whether all of it is below 0."""
        return self.high is not None and self.high < 0

    def points(self) -> str:
        """In percentage points, for people: "+4.2 [+3.1, +5.3]"."""
        if self.low is None or self.high is None:
            return f"{100 * self.mean:+.2f}"
        return f"{100 * self.mean:+.2f} [{100 * self.low:+.2f}, {100 * self.high:+.2f}]"


def of_mean(values: Sequence[float]) -> Interval:
    """Of the mean of independent values, at least one: plus and minus t(n - 1) standard errors."""
    centre, n = mean(values), len(values)
    if n < 2:
        return Interval(centre, None, None, n, "one value")
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * stdev(values) / n**0.5
    return Interval(centre, centre - half, centre + half, n, f"t, {n} values")


def paired(a: Configuration, b: Configuration, images: str = "own") -> Interval | None:
    """The accuracy of a less that of b, over the seeds that both have; None where there are none.

    images: clean; augmented, each by its own training transform; or own, those that each protocol validates on. Where
    both have predictions of the same images: those of the kept weights, with a bootstrap over seeds and, within each,
    images. Else, of own images alone: the accuracies that the runs recorded, by t over seeds.
    """
    augmented = [PROTOCOLS[each.protocol].augment_validation for each in (a, b)]
    if images != "own":
        augmented = [images == "augmented"] * 2
    known = matched(a, b)
    if not known:
        return None
    by_image = [_by_image(x, y, *augmented) for x, y, _, _ in known]
    if all(difference is not None for difference in by_image):
        return bootstrap([difference for difference in by_image if difference is not None])
    if images != "own":
        return None
    return of_mean([mine - theirs for _, _, mine, theirs in known])


def bootstrap(differences: Sequence[NDArray[np.float64]]) -> Interval:
    """differences: of each seed, (images,), what one got right less what the other did, -1, 0 or 1.

    Seeds are drawn with replacement, and images within each: the interval holds for other seeds and other images. With
    one seed it holds for that seed alone, which is said. B. Efron, R. Tibshirani, "An Introduction to the Bootstrap",
    1993, chapter 13: percentiles.
    """
    generator = np.random.Generator(np.random.Philox(SEED))
    n = len(differences)
    # a resampled mean depends on how often each of three values was drawn, so counts of these are drawn
    within = np.empty((RESAMPLES, n))
    for column, values in enumerate(differences):
        kinds, counts = np.unique(values, return_counts=True)
        drawn = generator.multinomial(len(values), counts / len(values), RESAMPLES)
        within[:, column] = drawn @ kinds / len(values)
    chosen = generator.integers(n, size=(RESAMPLES, n))
    means = np.take_along_axis(within, chosen, 1).mean(1)
    centre = float(np.mean([values.mean() for values in differences]))
    low, high = (float(q) for q in np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    images = len(differences[0])
    seeds = f"{n} seeds" if n > 1 else "one seed, and for it alone"
    return Interval(centre, low, high, n, f"bootstrap, {seeds}, {images:,} images each")


def _by_image(a: Run, b: Run, a_augmented: bool, b_augmented: bool) -> NDArray[np.float64] | None:
    """(images,) right by a less right by b; None where they did not both say something of the same images."""
    x, y = a.predictions, b.predictions
    if x is None or y is None or not np.array_equal(x.ids, y.ids):
        return None
    return x.right(a_augmented).astype(np.float64) - y.right(b_augmented)
