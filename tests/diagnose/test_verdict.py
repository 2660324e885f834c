"""What is said of the arms follows from the numbers."""

from math import nan, sqrt

import pytest
import torch
from support.diagnosis import EVAL, FAST, SLOW

from fastcifar.diagnose import record
from fastcifar.diagnose.batchnorm import Evaluation
from fastcifar.diagnose.verdict import ArmFinding, finding, jump, sentence


def evaluation(epoch, step, loss, restored=0.0, moved=0.0, arm="an arm"):
    return Evaluation(arm, epoch, step, loss, 0.5, restored, 0.6, moved, 2 * moved)


def test_the_jump_by_hand():
    """Losses change by 3 and 2 within the second epoch and by -1 and 4 in the third; ends of epochs by 12 and 3."""
    found = finding([
        evaluation(0, 0, 99), evaluation(1, 3, 50), evaluation(1, 4, 7), evaluation(1, 5, 1),
        evaluation(2, 3, 8, 1.0), evaluation(2, 4, 11, 1.5), evaluation(2, 5, 13, 1.75),
        evaluation(3, 3, 13), evaluation(3, 4, 12), evaluation(3, 5, 16, 0.75, moved=0.2),
    ])  # fmt: skip
    assert found.compared == 2
    assert found.jump == pytest.approx(sqrt((1**2 + 5**2) / 2 / 2))
    assert found.restored_jump == pytest.approx(sqrt((0.25**2 + 0.75**2) / 2 / 2))
    assert found.epoch_jump == pytest.approx(sqrt(9**2 / 2))
    assert found.restored_epoch_jump == pytest.approx(sqrt((1.75 + 1.0) ** 2 / 2))
    assert (found.loss, found.restored_loss, found.accuracy) == (16, 0.75, 0.5)
    assert (found.moved, found.moved_most) == (0.2, 0.4)


def test_a_jump_is_the_deviation_of_random_changes_whatever_the_trend():
    changes = 0.3 * torch.randn(100, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for trend in (0.0, -5.0):
        assert jump((changes + trend).cumsum(1).tolist()) == pytest.approx(0.3, rel=0.02)
    assert jump([[10 - 0.5 * step for step in range(9)], [3.0, 2.0, 1.0]]) == 0


def test_numbers_that_there_are_not():
    found = finding([evaluation(1, 1, 1.0), evaluation(2, 1, nan), evaluation(2, 2, 1.0), evaluation(2, 3, 1.0)])
    assert torch.tensor([found.jump, found.epoch_jump, found.restored_epoch_jump]).isnan().all()
    assert found.restored_jump == 0
    nothing = {"jump": None, "epoch_jump": None, "restored_epoch_jump": None}
    assert record.as_json(found) | nothing == record.as_json(found)
    assert record.evaluation_rows([found])[0][4] == "none"


def arm(name, size, restored, compared=54):
    return ArmFinding(name, 1.0, 0.5, 1.0, size, restored, size, restored, 0.1, 0.2, compared)


def said(size, restored, steady, **more):
    return sentence([arm("training mode, momentum 0.1", size, restored, **more), arm("eval mode", steady, steady)])


def test_the_sentence_names_the_cause():
    assert said(0.31, 0.027, 0.026) == (
        "In training mode, momentum 0.1, the validation loss jumps by 0.31 from one step to the next (31 % of it), "
        "12 times the 0.026 of eval mode; with the initial statistics put back the same heads give 0.027: "
        "the drift of the statistics is the cause."
    )


@pytest.mark.parametrize(
    ("numbers", "ending"),
    [
        ((0.3, 0.08, 0.02), ": the drift of the statistics is the cause."),
        ((0.3, 0.14, 0.02), ": the drift of the statistics is a part of the cause (57 %)."),
        ((0.3, 0.25, 0.02), ": the drift of the statistics is not the cause."),
        ((0.3, 0.40, 0.02), ": the drift of the statistics is not the cause."),
        ((0.3, 0.02, 0.2), "1.5 times the 0.2 of eval mode; with the initial statistics put back the same heads give "
                           "0.02: training mode makes no clear difference here."),
        ((0.1, 0.02, 0.2), ": training mode makes no clear difference here."),
        ((0.1, 0.0, 0.0), ": the drift of the statistics is the cause."),
        ((0.0, 0.0, 0.0), ": training mode makes no clear difference here."),
    ],
)  # fmt: skip
def test_the_sentence_says_no_more_than_the_numbers(numbers, ending):
    assert said(*numbers).endswith(ending)


def test_the_sentence_is_cautious_about_few_small_and_lost_numbers():
    assert said(0.3, 0.02, 0.02, compared=4).endswith(
        ": the drift of the statistics is the cause, as far as 4 comparisons can tell."
    )
    assert said(0.003, 0.001, 0.001).endswith(
        "(0.3 % of it), 3 times the 0.001 of eval mode; with the initial statistics put back the same heads give "
        "0.001: the drift of the statistics is the cause, but so small a jump is hardly an instability."
    )
    assert said(nan, 0.1, 0.1) == (
        "No conclusion is possible, as validation losses were not finite (training mode, momentum 0.1)."
    )


def test_the_sentence_is_about_the_least_steady_arm():
    text = sentence([arm(SLOW, 0.04, 0.02), arm(FAST, 0.3, 0.02), arm(EVAL, 0.02, 0.02)])
    assert text.startswith(f"In {FAST}, the validation loss jumps by 0.3 from")
    assert f"15 times the 0.02 of eval mode (0.04 in {SLOW});" in text


def test_large_numbers_are_written_out():
    assert "jumps by 3 from one step to the next (300 % of it), 300 times the 0.01 of eval" in said(3.0, 0.0, 0.01)
