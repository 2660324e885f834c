"""The cost of replaced statistics, and the verdict on it."""

from math import nan, sqrt

import pytest
import torch
from support.diagnosis import EVAL, FAST, of

from fastcifar.diagnose.arms import Arm, ByImage, Trained
from fastcifar.diagnose.statistics import Cost, cost, judge
from fastcifar.diagnose.verdict import ACQUITTED, GUILTY, UNDECIDED


def by_image(losses, right):
    return ByImage(torch.tensor(losses, dtype=torch.float64), torch.tensor(right, dtype=torch.float64))


def test_the_cost_by_hand():
    """Differences of the images: losses 2, 0 and 1; accuracies -1, 0 and -1/2 in the mean of two evaluations."""
    replaced = Trained(Arm(0.1), late=[by_image([3, 1, 2], [0, 1, 0]), by_image([3, 1, 4], [0, 1, 1])])
    kept = Trained(Arm(), late=[by_image([1, 1, 2], [1, 1, 1]), by_image([1, 1, 2], [1, 1, 1])])
    found = cost(replaced, kept)
    assert (found.arm, found.loss, found.accuracy) == ("training mode, momentum 0.1", 1, 0.5)
    assert found.loss_error == pytest.approx(1 / sqrt(3))
    assert found.accuracy_error == pytest.approx(0.5 / sqrt(3))
    assert (found.reached, found.kept) == (0.5, 1)


def test_the_cost_is_that_of_the_last_epoch(made):
    (cost_of_fast, _) = made.judgements[1].numbers["costs"]
    fast, steady = (of(made.evaluations, arm)[-2:] for arm in (FAST, EVAL))
    assert cost_of_fast["loss"] == pytest.approx(sum(a.loss - b.loss for a, b in zip(fast, steady, strict=True)) / 2)
    assert cost_of_fast["reached"] == pytest.approx(sum(one.accuracy for one in fast) / 2)


@pytest.mark.parametrize(("images", "verdict"), [(20, UNDECIDED), (299, UNDECIDED), (301, ACQUITTED)])
def test_few_images_of_which_none_changed_acquit_nobody(images, verdict):
    found = judge([Cost("an arm", 0.0, 0.0, 0.0, 0.0, 0.6, 0.6, images)])
    assert found.verdict == verdict
    assert "-0.00 points" not in found.sentence


@pytest.mark.parametrize(
    ("accuracy", "error", "verdict", "why"),
    [
        (0.05, 0.01, GUILTY, "that is above 1.00 point"),
        (0.05, 0.03, UNDECIDED, "the interval holds the bound of 1.00 point, so more validation images would decide"),
        (0.001, 0.001, ACQUITTED, "that is below 1.00 point"),
        (-0.05, 0.01, ACQUITTED, "that is below 1.00 point"),
        (nan, 0.01, UNDECIDED, "no conclusion is possible, as validation losses were not finite (an arm)"),
    ],
)
def test_every_verdict(accuracy, error, verdict, why):
    found = judge([Cost("an arm", accuracy, error, 0.1, 0.01, 0.6, 0.65, 10_000)])
    assert found.verdict == verdict
    assert why in found.sentence


def test_the_sentence_is_about_the_arm_that_costs_most():
    costs = [Cost("a", 0.01, 0.01, 0.1, 0.01, 0.64, 0.65, 999), Cost("b", 0.05, 0.01, 0.25, 0.1, 0.6, 0.65, 999)]
    assert judge(costs).sentence == (
        "Replaced statistics: guilty, as replacing them costs 5.00 [3.04, 6.96] points of accuracy in b, which has "
        "60.00 % where eval mode has 65.00 % after the same steps, 1.00 in a, and +0.25 ± 0.2 of validation loss; that "
        "is above 1.00 point."
    )
