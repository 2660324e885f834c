"""The result of a `BatchNormExperiment`: a finding for each arm, and one sentence that answers the question."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf, isfinite, nan, sqrt
from statistics import mean

from fastcifar.diagnose.batchnorm import Arm, Evaluation

CLEAR = 2.0  # ratio to eval mode's jump above which a loss is called unstable
CAUSE, NO_CAUSE = 0.75, 0.25  # share of the jump above eval mode's that vanishes with the initial statistics put back
FEW = 10  # comparisons below which an estimate needs caution
SMALL = 0.01  # share of the loss that a curve hardly shows
DEFINITION = (
    "Jump: the typical change of the validation loss in a step that the change before does not predict. It is the "
    "square root of half the mean square difference of successive changes, after the first epoch. For random changes, "
    "it is their standard deviation. For a loss that rises or falls evenly, it is 0 (J. von Neumann et al., "
    "'The mean square successive difference', 1941). Between epochs: the jump of the losses at the ends of epochs. "
    "Restored: the same heads, with BatchNorm's initial statistics put back. Moved: the distance of the running means "
    "from the initial ones at the end, in initial standard deviations, as the mean over channels of the median layer. "
    "Most: the same distance in the layer where it is largest."
)


@dataclass(frozen=True)
class ArmFinding:
    """The numbers of an arm, by DEFINITION. A jump is NaN where a loss was not finite or where losses are too few."""

    arm: str
    loss: float
    """Validation loss at the end. ``accuracy``, in [0, 1], ``moved`` and ``moved_most`` also belong to the end."""
    accuracy: float
    restored_loss: float
    jump: float
    restored_jump: float
    epoch_jump: float
    restored_epoch_jump: float
    moved: float
    moved_most: float
    compared: int
    """The number of pairs of changes from which ``jump`` is computed."""


def finding(evaluations: Sequence[Evaluation]) -> ArmFinding:
    """Return the finding of one arm. evaluations: those of the arm, in their order."""
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
    """Return the jump, by DEFINITION, of one or more series of losses; NaN without three finite successive losses."""
    squares = [
        (c - 2 * b + a) ** 2 for losses in series for a, b, c in zip(losses, losses[1:], losses[2:], strict=False)
    ]
    return sqrt(mean(squares) / 2) if squares and all(map(isfinite, squares)) else nan


def findings(evaluations: Sequence[Evaluation]) -> list[ArmFinding]:
    """Return a finding for each arm, in the order of the arms."""
    names = dict.fromkeys(evaluation.arm for evaluation in evaluations)
    return [finding([evaluation for evaluation in evaluations if evaluation.arm == name]) for name in names]


def sentence(found: Iterable[ArmFinding]) -> str:
    """Return the answer that the findings support, as one sentence."""
    by_arm = {finding.arm: finding for finding in found}
    steady = by_arm.pop(Arm().name)
    lost = [finding.arm for finding in (steady, *by_arm.values()) if not isfinite(finding.jump + finding.restored_jump)]
    if lost:
        return f"No conclusion is possible, as validation losses were not finite ({'; '.join(lost)})."
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
