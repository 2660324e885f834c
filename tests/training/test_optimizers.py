"""The optimizers are torch's, with their state made before the first step, and they go on from a checkpoint."""

from dataclasses import replace

import pytest
import torch
from support.runs import CPU, run, spec_of
from torch import nn
from torch.nn.functional import cross_entropy

from fastcifar.errors import UsageError
from fastcifar.runs.spec import OPTIMIZERS, SCHEDULES
from fastcifar.training import loop
from fastcifar.training.batches import open_pipelines
from fastcifar.training.learner import Learner, evaluate
from fastcifar.training.optimizers import MAKERS, optimizer_of


def weights():
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 3, 3, 3), (5, 4), (5,))
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def after_steps(parameters, optimizer, lrs=(None, None, None)):
    generator = torch.Generator().manual_seed(1)
    for lr in lrs:
        if lr is not None:
            optimizer.param_groups[0]["lr"].fill_(lr)
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
        optimizer.zero_grad()
        assert all(parameter.grad is None for parameter in parameters)
    return parameters


def test_there_is_a_maker_for_every_name():
    assert tuple(MAKERS) == OPTIMIZERS


@pytest.mark.parametrize(
    ("name", "torchs"),
    [
        ("adam", lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.01)),
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.01, momentum=0.9, nesterov=True)),
    ],
)
def test_the_steps_are_torchs(name, torchs, synthetic):
    spec = spec_of(synthetic, optimizer=name, lr=0.1, l2=0.01)
    ours, theirs = weights(), weights()
    after_steps(ours, optimizer_of(ours, spec, spec.lr))
    after_steps(theirs, torchs(theirs))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_muon_is_torchs_for_matrices_and_sgd_for_the_rest(synthetic):
    spec = spec_of(synthetic, optimizer="muon", lr=0.1, l2=0.01)
    ours, theirs = weights(), weights()
    ours[0].data = ours[0].data.contiguous(memory_format=torch.channels_last)
    after_steps(ours, optimizer_of(ours, spec, spec.lr))
    flat = [nn.Parameter(theirs[0].detach().flatten(1).clone()), theirs[1]]
    muon = torch.optim.Muon(flat, lr=0.1, weight_decay=0.01)
    sgd = torch.optim.SGD(theirs[2:], lr=0.1, weight_decay=0.01, momentum=0.9, nesterov=True)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        gradients = [torch.randn(parameter.shape, generator=generator) for parameter in theirs]
        flat[0].grad, flat[1].grad, theirs[2].grad = gradients[0].flatten(1), *gradients[1:]
        muon.step()
        sgd.step()
    torch.testing.assert_close(ours[0].flatten(1), flat[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours[1], flat[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours[2], theirs[2])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_learning_rate_in_a_tensor_can_be_changed(name, synthetic):
    spec = spec_of(synthetic, optimizer=name)
    constant, changed = weights(), weights()
    after_steps(constant, optimizer_of(constant, spec, 0.1))
    after_steps(changed, optimizer_of(changed, spec, torch.tensor(5.0)), [0.1, 0.1, 0.1])
    for one, other in zip(constant, changed, strict=True):
        torch.testing.assert_close(one, other)


def test_an_old_torch_without_muon_is_said(synthetic, monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UsageError, match=r"optimizer muon needs torch.optim.Muon, which torch .* lacks; pip install"):
        Learner.new(spec_of(synthetic, optimizer="muon"), 10, CPU)
    with pytest.raises(UsageError, match="muon cannot scale gradients, as float16 needs; choose --amp"):
        spec_of(synthetic, optimizer="muon", precision="float16")


@pytest.mark.whole
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_goes_on_as_if_it_had_not_been_stopped(optimizer, schedule, synthetic, tmp_path):
    spec = spec_of(synthetic, optimizer=optimizer, schedule=schedule, smoothing=0.1, lr=1e-3)
    whole = run(spec, synthetic, tmp_path / "whole")[1:]

    def stop(line):
        if line["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train(spec, synthetic, tmp_path / "stopped", CPU, stop)
    assert run(spec, synthetic, tmp_path / "stopped")[1:] == whole
    losses = [line["train_loss"] for line in whole[0]]
    constant = run(replace(spec, schedule="constant"), synthetic, tmp_path / "constant")[1]
    assert (losses == [line["train_loss"] for line in constant]) == (schedule == "constant")


def test_smoothing_is_torchs_and_only_of_the_training_loss(synthetic):
    spec = spec_of(synthetic, smoothing=0.2, epochs=1, dropout=0.0)
    learner, plain = (Learner.new(each, 10, CPU) for each in (spec, replace(spec, smoothing=0.0)))
    training, validation = open_pipelines(spec, synthetic, CPU)
    with training, validation:
        batch = next(iter(training.epoch(1)))
        losses = [evaluate(each, validation.epoch(1)) for each in (learner, plain)]
        assert losses[0] == losses[1]
        logits = learner.model(batch.images).detach()
        expected = cross_entropy(logits, batch.labels, label_smoothing=0.2)
        assert float(learner.step(batch)) == pytest.approx(float(expected))
        assert float(plain.step(batch)) == pytest.approx(float(cross_entropy(logits, batch.labels)))
