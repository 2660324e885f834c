"""The arms of the experiment on BatchNorm differ only in what they should."""

from itertools import chain
from math import nan

import pytest
import torch
from support.diagnosis import ARMS, EPOCHS, EVAL, FAST, PER_EPOCH, SLOW, experiment, of

from fastcifar.diagnose.arms import Arm, arms_of, train_heads
from fastcifar.errors import UsageError
from fastcifar.training.batches import open_pipelines
from fastcifar.training.learner import Learner, evaluate


def test_every_arm_is_evaluated_at_the_start_and_evenly_in_each_epoch(made):
    for arm in (FAST, SLOW, EVAL):
        places = [(evaluation.epoch, evaluation.step) for evaluation in of(made.evaluations, arm)]
        assert places == [(0, 0), (1, 3), (1, 5), (2, 3), (2, 5), (3, 3), (3, 5)]


def test_arms_begin_with_one_head_and_take_the_same_batches(small, monkeypatch):
    heads, batches = [], []
    step = Learner.step

    def watched(self, batch, clock=None):
        if len(batches) % (5 * EPOCHS) == 0:
            heads.append(self.model.head.weight.detach().clone())
        batches.append(batch.ids.tolist())
        return step(self, batch, clock)

    monkeypatch.setattr(Learner, "step", watched)
    found = train_heads(experiment(small), ARMS)
    assert len(heads) == 2, "the momenta share one training"
    assert torch.equal(*heads)
    assert batches[: 5 * EPOCHS] == batches[5 * EPOCHS :] != []
    assert sorted(chain(*batches[:5])) == small.ids("training").tolist()
    assert len({(arm.evaluations[0].loss, arm.evaluations[0].restored_loss) for arm in found}) == 1


def test_the_arms_that_share_a_training_are_those_of_plain_trainings(small, made):
    """The losses equal those of a network that is trained with the momentum itself, by the usual learner."""
    for arm in ARMS:
        same = experiment(small)
        learner, found, states = same.learner(arm.tune), of(made.evaluations, arm.name)[1:], []
        for module in learner.model.modules():
            if arm.momentum is not None and isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = arm.momentum
        training, validation = open_pipelines(same.spec, small, same.device)
        with training, validation:
            losses = []
            for epoch in range(1, EPOCHS + 1):
                for step, batch in enumerate(training.epoch(epoch), 1):
                    learner.step(batch)
                    if step in same.evaluated:
                        losses.append(evaluate(learner, validation.epoch(0)))
                        states.append(
                            {key: value.clone() for key, value in learner.model.backbone.state_dict().items()}
                        )
                learner.epoch = epoch
            final = []
            for state in states:
                learner.model.backbone.load_state_dict(state)
                final.append(evaluate(learner, validation.epoch(0))[0])
        assert [one.loss for one in found] == pytest.approx([loss for loss, _ in losses], rel=1e-5)
        assert [one.accuracy for one in found] == pytest.approx([accuracy for _, accuracy in losses])
        assert [one.final_loss for one in found] == pytest.approx(final, rel=1e-5)


def test_only_training_mode_moves_the_statistics_and_momentum_by_how_much(made):
    for evaluation in of(made.evaluations, EVAL):
        assert evaluation.moved == evaluation.moved_most == 0
        assert (evaluation.restored_loss, evaluation.restored_accuracy) == (evaluation.loss, evaluation.accuracy)
    assert len({evaluation.final_loss for evaluation in of(made.evaluations, EVAL)}) == 1
    for fast, slow in zip(of(made.evaluations, FAST)[1:], of(made.evaluations, SLOW)[1:], strict=True):
        assert fast.moved_most >= fast.moved > 3 * slow.moved > 0
        assert fast.loss != fast.restored_loss
        assert slow.loss != slow.restored_loss


def test_momentum_changes_what_is_evaluated_not_what_is_learnt(made):
    for fast, slow in zip(of(made.evaluations, FAST), of(made.evaluations, SLOW), strict=True):
        assert (fast.restored_loss, fast.restored_accuracy) == (slow.restored_loss, slow.restored_accuracy)
    assert of(made.evaluations, FAST)[-1].restored_loss != of(made.evaluations, EVAL)[-1].restored_loss


def test_the_final_head_is_the_last_one_and_only_the_statistics_move_its_loss(made):
    for arm in (FAST, SLOW, EVAL):
        found = of(made.evaluations, arm)
        assert found[-1].final_loss == found[-1].loss
    finals = [evaluation.final_loss for evaluation in of(made.evaluations, FAST)]
    assert len(set(finals)) == len(finals)
    assert of(made.evaluations, FAST)[0].final_loss == of(made.evaluations, FAST)[-1].restored_loss


def test_evaluating_more_often_changes_nothing(small, made):
    (more, *_) = train_heads(experiment(small, per_epoch=99), arms_of([0.5]))
    by_place = {(found.epoch, found.step): found for found in more.evaluations}
    assert len(by_place) == 1 + EPOCHS * 5
    usual = of(made.evaluations, FAST)
    assert len(usual) == 1 + EPOCHS * PER_EPOCH
    assert all(by_place[found.epoch, found.step] == found for found in usual)


def test_only_the_evaluations_of_the_last_epoch_are_kept_by_image(small):
    (trained,) = train_heads(experiment(small), [Arm()])
    assert [one.means() for one in trained.late] == [
        (one.loss, one.accuracy) for one in trained.evaluations[-PER_EPOCH:]
    ]
    assert all(one.losses.shape == one.right.shape == (40,) for one in trained.late)


def test_a_batch_that_does_not_fit_is_told(small, monkeypatch):
    from dataclasses import replace

    told, gradients = [], Learner._gradients

    def full(self, batch, *more):
        if len(batch.ids) > 4 and self.micro_batch > 4:
            raise torch.OutOfMemoryError("too much")
        return gradients(self, batch, *more)

    monkeypatch.setattr(Learner, "_gradients", full)
    train_heads(replace(experiment(small), say=told.append), arms_of([0.5]))
    assert "a step takes them 4 at a time and adds up the gradients, and BatchNorm normalises each part" in told[0]


def test_arms():
    assert [found.name for found in arms_of([0.1, 0.01])] == [
        "training mode, momentum 0.1", "training mode, momentum 0.01", "eval mode",
    ]  # fmt: skip
    assert [Arm(0.1).tune, Arm().tune] == ["as-run", "head"]
    for momenta in ([], [0.1, 0.1], [0.0], [1.5], [nan]):
        with pytest.raises(UsageError, match=r"give different numbers in \(0, 1] with --momenta"):
            arms_of(momenta)
