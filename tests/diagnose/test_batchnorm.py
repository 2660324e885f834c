"""The experiment on BatchNorm: its arms differ only in what they should."""

from dataclasses import replace
from itertools import chain
from math import nan, sqrt

import pytest
import torch
from support.diagnosis import EPOCHS, EVAL, FAST, LAST, SLOW, experiment, of

from fastcifar.diagnose.batchnorm import Arm, Sample, Statistics, arms_of
from fastcifar.errors import UsageError
from fastcifar.runs.plan import headline_runs
from fastcifar.training.batches import open_pipelines
from fastcifar.training.learner import Learner, evaluate

CPU = torch.device("cpu")


@pytest.mark.whole
def test_every_arm_is_evaluated_at_the_start_and_after_an_epoch_s_last_steps(small, evaluations):
    assert len(evaluations) == len(experiment(small)) == 3 * (1 + EPOCHS * LAST)
    for arm in (FAST, SLOW, EVAL):
        places = [(evaluation.epoch, evaluation.step) for evaluation in of(evaluations, arm)]
        assert places == [(0, 0), (1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5)]
    assert [evaluation.arm for evaluation in evaluations] == sorted(
        (evaluation.arm for evaluation in evaluations), key=[FAST, SLOW, EVAL].index
    )


@pytest.mark.whole
def test_arms_begin_with_one_head_and_take_the_same_batches(small, monkeypatch):
    heads, batches = [], []
    step = Learner.step

    def watched(self, batch, clock=None):
        if not batches or len(batches) % 10 == 0:
            heads.append(self.model.head.weight.detach().clone())
        batches.append(batch.ids.tolist())
        return step(self, batch, clock)

    monkeypatch.setattr(Learner, "step", watched)
    found = list(experiment(small))
    assert len(heads) == 3
    assert all(torch.equal(head, heads[0]) for head in heads)
    assert batches[:10] == batches[10:20] == batches[20:] != []
    assert sorted(chain(*batches[:5])) == small.ids("training").tolist()
    first = [of(found, arm)[0] for arm in (FAST, SLOW, EVAL)]
    assert {replace(evaluation, arm="") for evaluation in first} == {replace(first[0], arm="")}


@pytest.mark.whole
def test_only_training_mode_moves_the_statistics_and_momentum_by_how_much(evaluations):
    for evaluation in of(evaluations, EVAL):
        assert evaluation.moved == evaluation.moved_most == 0
        assert (evaluation.restored_loss, evaluation.restored_accuracy) == (evaluation.loss, evaluation.accuracy)
    for fast, slow in zip(of(evaluations, FAST)[1:], of(evaluations, SLOW)[1:], strict=True):
        assert fast.moved_most > fast.moved > 3 * slow.moved > 0
        assert fast.loss != fast.restored_loss
        assert slow.loss != slow.restored_loss


@pytest.mark.whole
def test_momentum_changes_what_is_evaluated_not_what_is_learnt(evaluations):
    for fast, slow in zip(of(evaluations, FAST), of(evaluations, SLOW), strict=True):
        assert (fast.restored_loss, fast.restored_accuracy) == (slow.restored_loss, slow.restored_accuracy)
    assert of(evaluations, FAST)[-1].restored_loss != of(evaluations, EVAL)[-1].restored_loss


@pytest.mark.whole
def test_evaluating_more_often_changes_nothing(small, evaluations):
    more = {(found.arm, found.epoch, found.step): found for found in experiment(small, arms=[0.5], last=4)}
    usual = {(found.arm, found.epoch, found.step): found for found in evaluations}
    shared = more.keys() & usual.keys()
    assert len(shared) == 2 * (1 + EPOCHS * LAST)
    assert all(more[place] == usual[place] for place in shared)


@pytest.mark.whole
def test_a_batch_that_does_not_fit_is_told(small, monkeypatch):
    told, gradients = [], Learner._gradients

    def full(self, batch, *more):
        if len(batch.ids) > 4 and self.micro_batch > 4:
            raise torch.OutOfMemoryError("too much")
        return gradients(self, batch, *more)

    monkeypatch.setattr(Learner, "_gradients", full)
    found = iter(replace(experiment(small, arms=[0.5]), say=told.append))
    next(found), next(found)
    found.close()
    assert "a step takes them 4 at a time and adds up the gradients, and BatchNorm normalises each part" in told[0]


def test_restored_statistics_are_the_initial_ones_for_a_while_and_nothing_else_changes(small):
    (spec,) = headline_runs(
        4, small, model="resnet18", seeds=[0], **{"recipe": "none", "batch_size": 8, "tune": "as-run"}
    )
    training, validation = open_pipelines(spec, small, CPU)
    with training, validation:
        learner = Learner.new(spec, 10, CPU)
        statistics, (fresh, _) = Statistics(learner.model, "resnet18"), learner.snapshot()
        learner.step(next(training.epoch(1)))
        before, _ = learner.snapshot()
        modes = [module.training for module in learner.model.modules()]
        with statistics.initial():
            for name, value in learner.model.state_dict().items():
                source = fresh if "running" in name else before
                assert torch.equal(value, source[f"model.{name}"]), name
            evaluate(learner, validation.epoch(0))
        after, _ = learner.snapshot()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(fresh["model.backbone.bn1.running_mean"], after["model.backbone.bn1.running_mean"])
    assert modes == [module.training for module in learner.model.modules()]
    assert all(modes)


def test_how_far_statistics_moved_by_hand():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(2, eps=0.0), torch.nn.BatchNorm2d(1, eps=1.0))
    network[0].running_var.copy_(torch.tensor([4.0, 1.0]))
    network[1].running_var.fill_(8.0)
    statistics = Statistics(network, "it")
    assert statistics.moved().tolist() == [0, 0]
    network[0].running_mean.copy_(torch.tensor([3.0, -0.5]))
    network[1].running_mean.fill_(6.0)
    network[1].running_var.fill_(100.0)
    assert statistics.moved().tolist() == pytest.approx([(3 / 2 + 0.5 / 1) / 2, 6 / sqrt(8 + 1)])


def test_a_network_without_running_statistics_is_refused():
    for network in (torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1, track_running_stats=False)):
        with pytest.raises(UsageError, match="it has no BatchNorm with running statistics, so none can drift"):
            Statistics(network, "it")


def test_a_sample_is_drawn_from_each_split(digits):
    sample = Sample(digits, 40, seed=3)
    for split in ("training", "validation"):
        ids, every = sample.ids(split), digits.ids(split)
        assert len(set(ids)) == 40
        assert set(ids) <= set(every)
        assert list(ids) == sorted(ids)
        assert list(ids) != list(every[:40])
        assert list(ids) != list(Sample(digits, 40, seed=4).ids(split))
        assert list(Sample(digits, 10**6, seed=3).ids(split)) == list(every)
    function, arguments = sample.__reduce__()
    assert function(*arguments).ids("training").tolist() == sample.ids("training").tolist()


@pytest.mark.parametrize(("epochs", "last", "fits"), [(2, 3, True), (9, 2, False), (1, 9, False)])
def test_too_few_evaluations_are_refused(small, epochs, last, fits):
    if fits:
        assert experiment(small, epochs=epochs, last=last)
    else:
        with pytest.raises(UsageError, match="at least 2 epochs and 3 evaluations are needed, as the first epoch is"):
            experiment(small, epochs=epochs, last=last)


def test_no_more_evaluations_than_steps(small):
    assert experiment(small, last=100).each_epoch == 5


def test_arms():
    assert [found.name for found in arms_of([0.1, 0.01])] == [
        "training mode, momentum 0.1", "training mode, momentum 0.01", "eval mode",
    ]  # fmt: skip
    assert [Arm(0.1).tune, Arm().tune] == ["as-run", "head"]
    for momenta in ([], [0.1, 0.1], [0.0], [1.5], [nan]):
        with pytest.raises(UsageError, match=r"give different numbers in \(0, 1\] with --momenta"):
            arms_of(momenta)
