"""95 % intervals: of a mean over seeds, by Student's t; of a paired difference, by a bootstrap of seeds and images."""

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
SEED = 20230301  # of the resampling, so that the same runs give the same intervals


@dataclass(frozen=True)
class Interval:
    """A mean in [-1, 1] with its interval. low and high are None for a single value, which shows no spread."""

    mean: float
    low: float | None
    high: float | None
    n: int
    """The number of values: seeds, or pairs."""
    how: str

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


def of_mean(values: Sequence[float]) -> Interval:
    """Return the interval of the mean of independent values, one at least: plus and minus t(n - 1) standard errors."""
    centre, n = mean(values), len(values)
    if n < 2:
        return Interval(centre, None, None, n, "one value")
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * stdev(values) / n**0.5
    return Interval(centre, centre - half, centre + half, n, f"t, {n} values")


def paired(a: Configuration, b: Configuration, images: str = "own") -> Interval | None:
    """Return the accuracy of ``a`` minus that of ``b``, over the seeds that both have; None without such seeds.

    images: "clean"; "augmented", under each configuration's own training transform; or "own", the images that each
    protocol validates on. Where both have predictions of the same images, the accuracies are those of the kept weights,
    with a bootstrap over seeds and over the images of each seed. Otherwise "own" takes the recorded accuracies, with
    Student's t over seeds, and the other two return None.
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
    """Return the percentile interval of a paired difference, by resampling seeds and, for each seed, images.

    differences: for each seed, (images,): whether the first model is right minus whether the second is, so -1, 0 or 1.
    Resampling is with replacement, so the interval holds for other seeds and other images. With one seed it holds for
    that seed alone, and ``how`` says so. Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993,
    chapter 13.
    """
    generator = np.random.Generator(np.random.Philox(SEED))
    n = len(differences)
    # a resampled mean depends only on how often each of three values occurs, so drawing these counts is enough
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
    """Return (images,): right by a minus right by b; None where the two runs lack predictions of the same images."""
    x, y = a.predictions, b.predictions
    if x is None or y is None or not np.array_equal(x.ids, y.ids):
        return None
    return x.right(a_augmented).astype(np.float64) - y.right(b_augmented)
