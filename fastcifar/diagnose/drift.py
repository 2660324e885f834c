"""The suspect drift: does the validation loss of one and the same head move with the running statistics alone?"""

from math import inf, isfinite

from fastcifar.diagnose.findings import ArmFinding
from fastcifar.diagnose.suspects import DRIFT
from fastcifar.diagnose.verdict import ACQUITTED, GUILTY, UNDECIDED, Judgement, Ratio, judgement, no_conclusion, short

CAUSE = 0.75
"""Share of the jump above eval mode's that vanishes with the initial statistics put back, from which on the drift is
the cause. Three quarters leave no room for another cause of half its size."""
ENOUGH = 1.0
"""Range of the final head's loss, in jumps of the trained head's, from which on the drift alone makes such a jump."""
TOO_LITTLE = 0.25
"""The same range below which it cannot: the range is an upper bound of the change between any two evaluations."""


def judge(trained: ArmFinding, others: list[ArmFinding], steady: ArmFinding) -> Judgement:
    """Return the verdict. trained: the arm in training mode that jumps most. others: the other arms in training mode.

    steady: the arm in eval mode. Where the loss does not jump more than in eval mode, the drift is acquitted. Else it
    is guilty if the final head moves by ENOUGH and the jump vanishes with the initial statistics (CAUSE), and
    acquitted if the final head moves TOO_LITTLE.
    """
    numbers_of = [(arm.arm, arm.jump + arm.restored_jump + arm.final_range) for arm in (trained, *others, steady)]
    lost = [name for name, number in numbers_of if not isfinite(number)]
    if lost:
        return no_conclusion(DRIFT, lost)
    ratio = Ratio(trained.spread, steady.spread)
    share = trained.final_range / trained.jump if trained.jump else inf
    excess = trained.jump - steady.jump
    vanishes = (trained.jump - trained.restored_jump) / excess if excess > 0 else 0.0
    verdict, why = ratio.verdict, ratio.why
    if verdict == GUILTY:
        verdict, why = _by_cause(share, vanishes)
    beside = "".join(f", {short(arm.jump)} in {arm.arm}" for arm in others)
    facts = (
        f"the validation loss jumps by {short(trained.jump)} in {trained.arm} ({short(100 * ratio.spread.share)} % of "
        f"it{beside}), {ratio.text} times the {short(steady.jump)} of eval mode, that of the final head moves by "
        f"{short(trained.final_range)} with the statistics alone, and with the initial statistics put back the heads "
        f"jump by {short(trained.restored_jump)}"
    )
    numbers = ratio.numbers() | {
        "arm": trained.arm, "final_range": trained.final_range, "range_in_jumps": share,
        "restored_jump": trained.restored_jump, "vanishing_share": vanishes,
    }  # fmt: skip
    return judgement(DRIFT, verdict, facts, why, {key: _plain(value) for key, value in numbers.items()})


def _by_cause(share: float, vanishes: float) -> tuple[str, str]:
    """Return the verdict on the drift and the rule, where the loss does jump."""
    if share < TOO_LITTLE:
        return ACQUITTED, f"its range is below {TOO_LITTLE:g} jumps"
    if share >= ENOUGH and vanishes >= CAUSE:
        return GUILTY, (
            f"its range is at least {ENOUGH:g} jump, and {short(100 * vanishes)} % of the jump above eval mode's vanish"
        )
    return UNDECIDED, (
        f"guilt needs a range of {ENOUGH:g} jump (here {short(share)}) and that {100 * CAUSE:g} % of the jump above "
        f"eval mode's vanish (here {short(100 * vanishes)} %)"
    )


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not isfinite(value) else value
