"""The verdict on the drift follows from the numbers."""

from dataclasses import replace
from math import nan

import pytest
from support.diagnosis import FINDING, STEADY

from fastcifar.diagnose.drift import judge
from fastcifar.diagnose.verdict import ACQUITTED, GUILTY, UNDECIDED


def judged(jump=0.3, final_range=0.5, restored=0.02, steady=0.02, **more):
    arm = replace(FINDING, jump=jump, final_range=final_range, restored_jump=restored, **more)
    return judge(arm, [], replace(STEADY, jump=steady, restored_jump=steady, **more))


def test_the_sentence_has_the_numbers():
    other = replace(FINDING, arm="training mode, momentum 0.01", jump=0.04)
    assert judge(FINDING, [other], STEADY).sentence == (
        "Drift of the running statistics: guilty, as the validation loss jumps by 0.3 in training mode, momentum 0.1 "
        "(30 % of it, 0.04 in training mode, momentum 0.01), 15 [10, 22] times the 0.02 of eval mode, that of the "
        "final head moves by 0.5 with the statistics alone, and with the initial statistics put back the heads jump by "
        "0.02; its range is at least 1 jump, and 100 % of the jump above eval mode's vanish."
    )


@pytest.mark.parametrize(
    ("numbers", "verdict", "why"),
    [
        ({"restored": 0.08}, GUILTY, "its range is at least 1 jump, and 79 % of the jump above eval mode's vanish"),
        ({"restored": 0.2}, UNDECIDED, "(here 36 %)"),
        ({"restored": 0.4}, UNDECIDED, "(here -36 %)"),
        ({"final_range": 0.2}, UNDECIDED, "guilt needs a range of 1 jump (here 0.67)"),
        ({"final_range": 0.07}, ACQUITTED, "its range is below 0.25 jumps"),
        ({"jump": 0.02}, ACQUITTED, "that is below 2 times"),
        ({"jump": 0.0, "steady": 0.0}, ACQUITTED, "less than 1 % of the loss hardly shows"),
        ({"jump": 0.003, "steady": 0.0001}, ACQUITTED, "less than 1 % of the loss hardly shows"),
        ({"steady": 0.0, "restored": 0.0}, GUILTY, "its range is at least 1 jump"),
        ({"evaluations": 3}, UNDECIDED, "the intervals do not decide between"),
        ({"jump": nan}, UNDECIDED, "no conclusion is possible, as validation losses were not finite (training mode,"),
        ({"final_range": nan}, UNDECIDED, "no conclusion is possible"),
        ({"steady": nan}, UNDECIDED, "were not finite (eval mode)"),
    ],
)
def test_every_verdict(numbers, verdict, why):
    found = judged(**numbers)
    assert found.verdict == verdict
    assert why in found.sentence
    assert f": {verdict}" in found.sentence
