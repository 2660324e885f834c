"""What the evaluations of `batchnorm.Experiment` show: a finding for each arm, and one sentence on the question."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf, isfinite, nan, sqrt
from statistics import mean

from fastcifar.diagnose.batchnorm import Arm, Evaluation

CLEAR = 2.0  # times eval mode's jumps: what is called unstable
CAUSE, NO_CAUSE = 0.75, 0.25  # of what is above eval mode's, the share that goes with the initial statistics put back
FEW = 10  # jumps, of which an estimate is to be taken with caution
SMALL = 0.01  # of the loss: what a curve hardly shows
DEFINITION = (
    "Jump: the change of the validation loss in a step that the step before does not foretell: the root of half the "
    "mean square difference of successive changes, after the first epoch. It is the standard deviation of the changes "
    "where they are random, and nothing where the loss rises or falls evenly, however fast (J. von Neumann et al., "
    "'The mean square successive difference', 1941). Between epochs: that of the losses at the ends of epochs. "
    "Restored: the same heads, with BatchNorm's initial statistics put back. Moved: how far the running means are from "
    "the initial ones at the end, in initial standard deviations, mean over channels; the median layer and the one "
    "where it is largest."
)


@dataclass(frozen=True)
class ArmFinding:
    """An arm in numbers; see DEFINITION. NaN where a loss was not finite or there are too few."""

    arm: str
    loss: float
    """at the end, as is the accuracy, in [0, 1], and how far the statistics had moved"""
    accuracy: float
    restored_loss: float
    jump: float
    restored_jump: float
    epoch_jump: float
    restored_epoch_jump: float
    moved: float
    moved_most: float
    compared: int
    """pairs of changes behind ``jump``"""


def finding(evaluations: Sequence[Evaluation]) -> ArmFinding:
    """Of an arm's evaluations, in order."""
    epochs = [list(group) for _, group in groupby(evaluations, lambda one: one.epoch) if _ > 0]
    ends = [epoch[-1] for epoch in epochs]
    after = epochs[1:]
    return ArmFinding(
        arm=evaluations[-1].arm,
        loss=ends[-1].loss,
        accuracy=ends[-1].accuracy,
        restored_loss=ends[-1].restored_loss,
        jump=jump([[one.loss for one in epoch] for epoch in after]),
        restored_jump=jump([[one.restored_loss for one in epoch] for epoch in after]),
        epoch_jump=jump([[end.loss for end in ends]]),
        restored_epoch_jump=jump([[end.restored_loss for end in ends]]),
        moved=ends[-1].moved,
        moved_most=ends[-1].moved_most,
        compared=sum(max(0, len(epoch) - 2) for epoch in after),
    )


def jump(series: Iterable[Sequence[float]]) -> float:
    """DEFINITION's, of one or more series of losses."""
    squares = [
        (c - 2 * b + a) ** 2 for losses in series for a, b, c in zip(losses, losses[1:], losses[2:], strict=False)
    ]
    return sqrt(mean(squares) / 2) if squares and all(map(isfinite, squares)) else nan


def findings(evaluations: Sequence[Evaluation]) -> list[ArmFinding]:
    """A finding for each arm, in the order of the arms."""
    names = dict.fromkeys(evaluation.arm for evaluation in evaluations)
    return [finding([evaluation for evaluation in evaluations if evaluation.arm == name]) for name in names]


def sentence(found: Iterable[ArmFinding]) -> str:
    """What the arms' findings say on the question, no more than they show."""
    by_arm = {finding.arm: finding for finding in found}
    steady = by_arm.pop(Arm().name)
    lost = [finding.arm for finding in (steady, *by_arm.values()) if not isfinite(finding.jump + finding.restored_jump)]
    if lost:
        return f"Nothing can be said, as validation losses were not finite ({'; '.join(lost)})."
    worst = max(by_arm.values(), key=lambda finding: finding.jump)
    others = [f"{finding.jump:.2g} in {arm}" for arm, finding in by_arm.items() if finding is not worst]
    times = worst.jump / steady.jump if steady.jump else inf
    share = worst.jump / worst.loss if worst.loss else inf
    text = (
        f"In {worst.arm}, the validation loss jumps by {worst.jump:.2g} from one step to the next "
        f"({_short(100 * share)} % of it), {_short(times)} times the {steady.jump:.2g} of eval mode"
        + (f" ({', '.join(others)})" if others else "")
        + f"; with the initial statistics put back the same heads give {worst.restored_jump:.2g}: "
        + _conclusion(steady.jump, worst.jump, worst.restored_jump)
    )
    if worst.jump > CLEAR * steady.jump and share < SMALL:
        text += ", but so small a jump is hardly an instability"
    return text + (f", as far as {worst.compared} comparisons can tell." if worst.compared < FEW else ".")


def _conclusion(steady: float, unsteady: float, restored: float) -> str:
    if unsteady <= CLEAR * steady:
        return "training mode makes no clear difference here"
    share = (unsteady - restored) / (unsteady - steady)
    if share >= CAUSE:
        return "the drift of the statistics is the cause"
    if share <= NO_CAUSE:
        return "the drift of the statistics is not the cause"
    return f"the drift of the statistics is a part of the cause ({100 * share:.0f} %)"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
