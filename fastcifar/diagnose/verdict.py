"""What the evaluations of `batchnorm.Experiment` show: a finding for each arm, and one sentence on the question."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import inf, isfinite, nan
from statistics import stdev

from fastcifar.diagnose.batchnorm import Arm, Evaluation

CLEAR = 2.0  # times eval mode's jumps: what is called unstable
CAUSE, NO_CAUSE = 0.75, 0.25  # of what is above eval mode's, the share that goes with the initial statistics put back
FEW = 10  # differences, of which a standard deviation is to be taken with caution
DEFINITION = (
    "Jumps: the standard deviation (n - 1) of the differences of validation losses one step apart, after the first "
    "epoch. Between epochs: that of the losses at the ends of epochs. Restored: the same heads, with BatchNorm's "
    "initial statistics put back. Moved: how far the running means are from the initial ones at the end, in initial "
    "standard deviations, mean over channels; the median layer and the one where it is largest."
)


@dataclass(frozen=True)
class Finding:
    """An arm in numbers; NaN where a loss was not finite or there are too few. See DEFINITION."""

    arm: str
    loss: float
    """at the end, as is the accuracy, in [0, 1], and how far the statistics had moved"""
    accuracy: float
    restored_loss: float
    jumps: float
    restored_jumps: float
    epoch_jumps: float
    restored_epoch_jumps: float
    moved: float
    moved_most: float
    differences: int
    """of which ``jumps`` is the standard deviation"""


def finding(evaluations: Sequence[Evaluation]) -> Finding:
    """Of an arm's evaluations, in order."""
    epochs = [list(group) for _, group in groupby(evaluations, lambda evaluation: evaluation.epoch) if _ > 0]
    ends = [epoch[-1] for epoch in epochs]
    within = [pair for epoch in epochs[1:] for pair in pairwise(epoch)]
    between = list(pairwise(ends))
    return Finding(
        arm=evaluations[-1].arm,
        loss=ends[-1].loss,
        accuracy=ends[-1].accuracy,
        restored_loss=ends[-1].restored_loss,
        jumps=_spread(later.loss - earlier.loss for earlier, later in within),
        restored_jumps=_spread(later.restored_loss - earlier.restored_loss for earlier, later in within),
        epoch_jumps=_spread(later.loss - earlier.loss for earlier, later in between),
        restored_epoch_jumps=_spread(later.restored_loss - earlier.restored_loss for earlier, later in between),
        moved=ends[-1].moved,
        moved_most=ends[-1].moved_most,
        differences=len(within),
    )


def findings(evaluations: Sequence[Evaluation]) -> list[Finding]:
    """A finding for each arm, in the order of the arms."""
    names = dict.fromkeys(evaluation.arm for evaluation in evaluations)
    return [finding([evaluation for evaluation in evaluations if evaluation.arm == name]) for name in names]


def sentence(found: Iterable[Finding]) -> str:
    """What the arms' findings say on the question, no more than they show."""
    by_arm = {finding.arm: finding for finding in found}
    steady = by_arm.pop(Arm().name)
    lost = [
        finding.arm for finding in (steady, *by_arm.values()) if not isfinite(finding.jumps + finding.restored_jumps)
    ]
    if lost:
        return f"Nothing can be said, as validation losses were not finite ({'; '.join(lost)})."
    worst = max(by_arm.values(), key=lambda finding: finding.jumps)
    others = [f"{finding.jumps:.2g} in {arm}" for arm, finding in by_arm.items() if finding is not worst]
    times = worst.jumps / steady.jumps if steady.jumps else inf
    text = (
        f"In {worst.arm}, the validation loss jumps by {worst.jumps:.2g} from one step to the next, {times:.2g} times "
        f"the {steady.jumps:.2g} of eval mode"
        + (f" ({', '.join(others)})" if others else "")
        + f"; with the initial statistics put back the same heads give {worst.restored_jumps:.2g}: "
        + _conclusion(steady.jumps, worst.jumps, worst.restored_jumps)
    )
    few = worst.differences < FEW
    return text + (f", as far as {worst.differences} differences can tell." if few else ".")


def _conclusion(steady: float, jumps: float, restored: float) -> str:
    if jumps < CLEAR * steady:
        return "training mode makes no clear difference here"
    share = (jumps - restored) / (jumps - steady)
    if share >= CAUSE:
        return "the drift of the statistics is the cause"
    if share <= NO_CAUSE:
        return "the drift of the statistics is not the cause"
    return f"the drift of the statistics is a part of the cause ({100 * share:.0f} %)"


def _spread(differences: Iterable[float]) -> float:
    values = list(differences)
    return stdev(values) if len(values) > 1 and all(map(isfinite, values)) else nan
