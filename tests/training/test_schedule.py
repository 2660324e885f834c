"""The schedules are torch's, by the number of the step alone."""

import warnings

import pytest
import torch
from support.runs import CPU, spec_of
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from fastcifar.runs.spec import SCHEDULES
from fastcifar.training.schedule import FACTORS, Rate, last_rate

EPOCHS, STEPS, LR = 4, 13, 0.3
TORCHS = {
    "cosine": lambda optimizer: CosineAnnealingLR(optimizer, EPOCHS * STEPS),
    "onecycle": lambda optimizer: OneCycleLR(optimizer, LR, EPOCHS * STEPS, cycle_momentum=False),
}


def test_there_is_a_function_for_every_name_but_constant():
    assert tuple(FACTORS) == SCHEDULES[1:] == tuple(TORCHS)


@pytest.mark.parametrize("name", FACTORS)
def test_every_steps_learning_rate_is_torchs(name, synthetic):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    theirs, scheduler = [], TORCHS[name](optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the scheduler wants steps of the optimizer
        for _ in range(EPOCHS * STEPS):
            theirs.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    rate, ours = Rate(spec_of(synthetic, schedule=name, lr=LR, epochs=EPOCHS), CPU), []
    for epoch in range(1, EPOCHS + 1):
        rate.begin(epoch, STEPS)
        for _ in range(STEPS):
            rate.advance()
            ours.append(float(rate.value))
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9)
    last = [last_rate(spec_of(synthetic, schedule=name, lr=LR, epochs=EPOCHS), n, STEPS) for n in range(1, EPOCHS + 1)]
    assert last == pytest.approx(theirs[STEPS - 1 :: STEPS], rel=1e-9)


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10])
def test_few_steps_have_a_learning_rate_too(name, steps):
    assert all(0 <= FACTORS[name](step, steps) <= 1 for step in range(steps))


def test_a_constant_learning_rate_is_a_number(synthetic):
    rate = Rate(spec_of(synthetic, lr=LR), CPU)
    rate.begin(1, STEPS)
    rate.advance()
    assert rate.value is LR or rate.value == LR
    assert isinstance(rate.value, float)


def test_an_epoch_that_begins_again_has_its_learning_rates_again(synthetic):
    rate = Rate(spec_of(synthetic, schedule="onecycle", epochs=3), CPU)
    rate.begin(2, STEPS)
    table = rate._table
    for _ in range(3 * STEPS + 1):  # more than the epoch has, as the trials of a recording may take
        rate.advance()
    first = float(rate.value)
    rate.begin(2, STEPS)
    rate.advance()
    assert float(rate.value) == first
    assert rate._table is table  # a recorded step reads this memory


def test_without_a_schedule_the_rate_of_an_epoch_is_the_run_s(synthetic):
    assert last_rate(spec_of(synthetic, lr=LR), 3, STEPS) == LR
