"""The kept weights on the dataset's own labelled test images, beside their accuracy on validation images."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from statistics import mean
from typing import Any

import numpy as np

from fastcifar.report.claims import BY_KAGGLE, CLAIMS, Judged
from fastcifar.report.collection import Collection, Configuration
from fastcifar.report.statistics import Interval, images_error, mean_spread, of_mean
from fastcifar.show.text import counted

KAGGLES = tuple(claim.id for claim in CLAIMS if claim.rule == BY_KAGGLE)
"""The ids of the claims on Kaggle's test images."""


@dataclass(frozen=True)
class Beside:
    """The accuracy of a configuration's kept weights on clean validation images, and on test images.

    Each accuracy is a mean and a standard deviation (n - 1; None for one seed) over the seeds, in [0, 1].
    """

    configuration: Configuration
    seeds: tuple[int, ...]
    """The seeds whose runs have predictions of both kinds of images."""
    validation: tuple[float, float | None]
    test: tuple[float, float | None]
    gap: Interval
    """Validation accuracy minus test accuracy. The interval holds for other seeds and for other images."""
    runs: tuple[str, ...]


def beside(collection: Collection) -> list[Beside]:
    """Compare both accuracies of each configuration that has runs with predictions of both kinds of images."""
    return [found for each in collection.configurations if (found := _beside(each)) is not None]


def _beside(configuration: Configuration) -> Beside | None:
    both = {
        seed: (run.run_id, run.predictions.right().astype(np.float64), run.tests.right().astype(np.float64))
        for seed, run in configuration.runs.items()
        if run.predictions is not None and run.tests is not None
    }
    if not both:
        return None
    runs, validation, test = zip(*both.values(), strict=True)
    of_validation, of_test = ([float(right.mean()) for right in each] for each in (validation, test))
    gaps = [mine - theirs for mine, theirs in zip(of_validation, of_test, strict=True)]
    gap = of_mean(gaps, hypot(images_error(validation), images_error(test)))
    return Beside(configuration, tuple(both), mean_spread(of_validation), mean_spread(of_test), gap, runs)


def sentences(rows: Sequence[Beside], images: int, unlike: str | None) -> list[str]:
    """Return sentences on what the test images judge, and on how much lower the accuracy is on them.

    images: how many there are. unlike: why they judge no claim of the report.
    """
    own = f"The dataset's own {counted(images, 'labelled test image')} are not Kaggle's, whose labels are not public."
    if unlike:
        judge = f"They judge no claim on Kaggle's test images, because {unlike}."
    else:
        judge = "The claims on Kaggle's test images are judged on them, as the nearest to a score by Kaggle."
    said = [f"{own} {judge}"]
    for protocol in dict.fromkeys(row.configuration.protocol for row in rows):
        gaps = [row.gap for row in rows if row.configuration.protocol == protocol]
        gap = 100 * mean(each.mean for each in gaps)
        above, below = sum(each.above for each in gaps), sum(each.below for each in gaps)
        said.append(
            f"Under {protocol}, accuracy is {abs(gap):.2f} points {'higher' if gap >= 0 else 'lower'} on clean "
            f"validation images than on test images, in the mean of {counted(len(gaps), 'configuration')}; the whole "
            f"95 % interval of the difference is above 0 for {above} of {len(gaps)}, and below 0 for {below}."
        )
    return said


def plain(rows: Sequence[Beside], judged: Judged, images: int, said: Sequence[str]) -> dict[str, Any]:
    """Return what a report says of test images as values that JSON can hold; accuracies in [0, 1].

    images: how many there are. said: `sentences` on them.
    """
    return {
        "images": images,
        "said": list(said),
        "configurations": [
            {
                "configuration": row.configuration.label,
                "experiment": row.configuration.experiment,
                "protocol": row.configuration.protocol,
                "seeds": list(row.seeds),
                **{
                    name: dict(zip(("mean", "sd"), values, strict=True))
                    for name, values in (("validation", row.validation), ("test", row.test))
                },
                "gap": {"mean": row.gap.mean, "low": row.gap.low, "high": row.gap.high},
                "runs": list(row.runs),
            }
            for row in rows
        ],
        "claims": [
            {"claim": claim.id, "said": claim.said, "protocol": protocol, "verdict": verdict.verdict,
             "measured": verdict.measured, "runs": list(verdict.runs)}
            for claim, by_protocol in judged
            if claim.id in KAGGLES
            for protocol, verdict in by_protocol.items()
        ],
    }  # fmt: skip
