"""Reports from within an epoch: when there is one, and that its numbers are right."""

import pytest
import torch
from support.runs import CPU, spec_of

from fastcifar.training import pace
from fastcifar.training.batches import open_pipelines
from fastcifar.training.compile import steps_of
from fastcifar.training.learner import Learner
from fastcifar.training.pace import Pace, Steps


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    monkeypatch.setattr(pace, "perf_counter", lambda: Clock.now)
    return Clock


def test_the_first_report_comes_after_two_seconds_then_one_a_second(clock):
    told = []
    counting = Pace(told.append, of=100)
    for n in range(1, 11):
        clock.now += 0.5
        counting.step(32, torch.tensor([n, n + 2.0]))
    assert [steps.done for steps in told] == [4, 6, 8, 10]
    assert told[0] == Steps(4, 100, 64.0, 5.0, 48.0)
    assert told[0].text == "step 4/100, 64 images/s, loss 5.000, 48 s left"


def test_a_report_has_the_mean_loss_of_the_runs_that_have_one(clock):
    told = []
    counting = Pace(told.append, of=2)
    for loss in (torch.tensor([1.0, torch.nan, 3.0]), torch.tensor(torch.nan)):
        clock.now += 5
        counting.step(8, loss)
    assert told[0].loss == 2.0
    assert told[1].loss != told[1].loss


def test_without_a_callback_the_loss_is_never_read(clock):
    counting = Pace(None, of=3)
    clock.now += 10
    counting.step(32, None)


def test_an_epoch_reports_its_steps_and_their_losses(synthetic, monkeypatch):
    monkeypatch.setattr(pace, "FIRST", 0.0)
    monkeypatch.setattr(pace, "EVERY", 0.0)
    spec, told = spec_of(synthetic), []
    training, validation = open_pipelines(spec, synthetic, CPU)
    with training, validation:
        trained = steps_of("none", Learner.new(spec, 10, CPU), training).epoch(1, tell=told.append)
    assert [each.done for each in told] == list(range(1, len(trained.sizes) + 1))
    assert {each.of for each in told} == {len(trained.sizes)}
    assert [each.loss for each in told] == pytest.approx(trained.losses.tolist(), rel=1e-6)
    assert all(each.images_per_s > 0 for each in told)
    assert told[-1].seconds_left == 0
