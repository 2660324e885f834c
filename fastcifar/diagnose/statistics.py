"""The suspect statistics: what does it cost to replace ImageNet's statistics by those of the own images?"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite, sqrt

import torch

from fastcifar.diagnose.arms import Trained
from fastcifar.diagnose.suspects import STATISTICS
from fastcifar.diagnose.verdict import ACQUITTED, GUILTY, UNDECIDED, Judgement, judgement, no_conclusion, short

COST = 0.01
"""Accuracy, one percentage point: the report states accuracies in whole points, so a smaller cost does not show."""
QUANTILE = 1.96
"""Standard errors on each side of a mean in its 95 % interval, for many images."""

UNSEEN = 3.0
"""Divided by a number of images, the largest share of changed images, at 95 %, of which none is seen: the rule of three
(B. D. Jovanovic and P. S. Levy, The American Statistician 51, 1997)."""


@dataclass(frozen=True)
class Cost:
    """The cost of an arm beside eval mode's, after equally many steps: means over the evaluations of the last epoch.

    accuracy: eval mode's accuracy minus the arm's. loss: the arm's loss minus eval mode's. The errors are standard
    errors by the choice of validation images, which both arms share; those of the heads' seeds are not in them.
    """

    arm: str
    accuracy: float
    accuracy_error: float
    loss: float
    loss_error: float
    reached: float
    """The arm's accuracy in [0, 1]. kept: eval mode's."""
    kept: float
    images: int
    """The number of validation images."""

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy. It is at least as wide as if no image had changed: see UNSEEN."""
        half = max(QUANTILE * self.accuracy_error, UNSEEN / self.images)
        return self.accuracy - half, self.accuracy + half


def cost(replaced: Trained, kept: Trained) -> Cost:
    """Return the cost of an arm in training mode beside the arm in eval mode."""
    losses, right = (
        torch.stack([getattr(one, key) for one in replaced.late]).mean(0)
        - torch.stack([getattr(one, key) for one in kept.late]).mean(0)
        for key in ("losses", "right")
    )
    images = sqrt(len(losses))
    reached, beside = (
        float(torch.stack([one.right for one in arm.late]).mean()) for arm in (replaced, kept)
    )  # fmt: skip
    return Cost(
        replaced.arm.name, -float(right.mean()), float(right.std()) / images, float(losses.mean()),
        float(losses.std()) / images, reached, beside, len(losses),
    )  # fmt: skip


def judge(costs: Sequence[Cost]) -> Judgement:
    """Return the verdict on the arm with the largest cost: guilty where its whole interval is above COST, acquitted
    where it is below.
    """
    lost = [one.arm for one in costs if not isfinite(one.loss + one.accuracy)]
    if lost:
        return no_conclusion(STATISTICS, lost)
    worst = max(costs, key=lambda one: one.accuracy)
    low, high = worst.interval
    verdict = GUILTY if low > COST else ACQUITTED if high < COST else UNDECIDED
    others = "".join(f", {_points(one.accuracy)} in {one.arm}" for one in costs if one is not worst)
    facts = (
        f"replacing them costs {_points(worst.accuracy)} [{_points(low)}, {_points(high)}] points of accuracy in "
        f"{worst.arm}, which has {100 * worst.reached:.2f} % where eval mode has {100 * worst.kept:.2f} % after the "
        f"same steps{others}, and {worst.loss:+.2g} ± {short(QUANTILE * worst.loss_error)} of validation loss"
    )
    why = {
        GUILTY: f"that is above {_points(COST)} point",
        ACQUITTED: f"that is below {_points(COST)} point",
        UNDECIDED: f"the interval holds the bound of {_points(COST)} point, so more validation images would decide",
    }[verdict]
    return judgement(STATISTICS, verdict, facts, why, {"costs": [asdict(one) for one in costs]})


def _points(accuracy: float) -> str:
    return f"{100 * accuracy + 0.0:.2f}".replace("-0.00", "0.00")
