"""The steps that are evaluated, and settings that give too few."""

import pytest
from support.diagnosis import experiment

from fastcifar.errors import UsageError


@pytest.mark.parametrize(("per_epoch", "steps"), [(1, [5]), (2, [3, 5]), (3, [2, 4, 5]), (99, [1, 2, 3, 4, 5])])
def test_evaluations_are_evenly_spaced_and_the_last_is_at_the_end(small, per_epoch, steps):
    assert experiment(small, per_epoch).evaluated == steps


def test_too_few_evaluations_are_refused(small):
    with pytest.raises(UsageError, match=r"--epochs 2 is too few: .*; give at least 3"):
        experiment(small, epochs=2)
    with pytest.raises(UsageError, match="--per-epoch 0 is below 1; give at least 1"):
        experiment(small, per_epoch=0)
