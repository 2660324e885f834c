"""The numbers of an arm follow from its evaluations."""

from math import nan, sqrt

import pytest

from fastcifar.diagnose.arms import Evaluation
from fastcifar.diagnose.findings import finding, findings


def evaluation(epoch, step, loss, restored=0.0, final=0.0, moved=0.0):
    return Evaluation("an arm", epoch, step, loss, 0.5, restored, 0.6, final, moved, 2 * moved)


def test_the_numbers_by_hand():
    """From the end of the first epoch on, losses change by -2, 3, 2 and -1."""
    found = finding([
        evaluation(0, 0, 99, final=50), evaluation(1, 3, 50, final=40), evaluation(1, 5, 9, 1.0, 3.0),
        evaluation(2, 3, 7, 1.0, 4.5), evaluation(2, 5, 10, 1.5, 2.0), evaluation(3, 3, 12, 1.75, 4.0),
        evaluation(3, 5, 11, 1.75, 4.0, moved=0.2),
    ])  # fmt: skip
    assert found.evaluations == 5
    assert found.jump == pytest.approx(sqrt((5**2 + 1**2 + 3**2) / 3 / 2))
    assert found.restored_jump == pytest.approx(sqrt((0.5**2 + 0.25**2 + 0.25**2) / 3 / 2))
    assert found.final_range == 2.5
    assert (found.loss, found.restored_loss, found.accuracy) == (11, 1.75, 0.5)
    assert (found.moved, found.moved_most) == (0.2, 0.4)
    assert (found.spread.value, found.spread.degrees, found.spread.loss) == (found.jump, 2, 11)


def test_numbers_that_there_are_not():
    found = finding([evaluation(epoch, 1, nan if epoch == 3 else 1.0) for epoch in (1, 2, 3, 4)])
    assert found.jump != found.jump
    assert found.restored_jump == found.final_range == 0
    (whole,) = findings([Evaluation("all weights", epoch, 1, 1.0, 0.5) for epoch in (1, 2, 3)])
    assert whole.jump == 0
    assert all(value != value for value in (whole.restored_loss, whole.restored_jump, whole.final_range, whole.moved))
