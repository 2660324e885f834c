"""The numbers of an arm that its curve shows: its losses at the end and its jumps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, nan

from fastcifar.diagnose.arms import Evaluation
from fastcifar.diagnose.verdict import Spread, freedom, jump

DEFINITION = (
    "Jump: the typical change of the validation loss from one evaluation to the next that the change before does not "
    "predict, from the end of the first epoch on. It is the square root of half the mean square difference of "
    "successive changes. For random changes, it is their standard deviation. For a loss that rises or falls evenly, "
    "it is 0 (J. von Neumann et al., 'The mean square successive difference', 1941). Restored: the same heads, with "
    "BatchNorm's initial statistics put back. Final: the largest minus the smallest loss of the final head with the "
    "statistics of the same evaluations. Moved: the distance of the running means from the initial ones at the end, "
    "in initial standard deviations, as the mean over channels of the median layer. Most: the same distance in the "
    "layer where it is largest."
)


@dataclass(frozen=True)
class ArmFinding:
    """The numbers of an arm, by DEFINITION. A number is NaN where a loss was not finite, or where it does not exist."""

    arm: str
    loss: float
    """Validation loss at the end. ``accuracy``, in [0, 1], ``moved`` and ``moved_most`` also belong to the end."""
    accuracy: float
    restored_loss: float
    jump: float
    restored_jump: float
    final_range: float
    moved: float
    moved_most: float
    evaluations: int
    """The number of losses from which a jump is computed."""

    @property
    def spread(self) -> Spread:
        """The jump with its degrees of freedom."""
        return Spread(self.jump, freedom(self.evaluations), self.loss)


def finding(evaluations: Sequence[Evaluation]) -> ArmFinding:
    """Return the finding of one arm. evaluations: those of the arm, in their order."""
    late = after_first_epoch(evaluations)
    final = [_number(one.final_loss) for one in late]
    end = evaluations[-1]
    return ArmFinding(
        arm=end.arm,
        loss=end.loss,
        accuracy=end.accuracy,
        restored_loss=_number(end.restored_loss),
        jump=jump([one.loss for one in late]),
        restored_jump=jump([_number(one.restored_loss) for one in late]),
        final_range=max(final) - min(final) if all(map(isfinite, final)) else nan,
        moved=_number(end.moved),
        moved_most=_number(end.moved_most),
        evaluations=len(late),
    )


def after_first_epoch(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Return the evaluations from the end of the first epoch on."""
    first = max((place for place, one in enumerate(evaluations) if one.epoch == 1), default=0)
    return list(evaluations[first:])


def findings(evaluations: Iterable[Evaluation]) -> list[ArmFinding]:
    """Return a finding for each arm, in the order of the arms."""
    by_arm: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        by_arm.setdefault(evaluation.arm, []).append(evaluation)
    return [finding(of_arm) for of_arm in by_arm.values()]


def _number(value: float | None) -> float:
    return nan if value is None else value
