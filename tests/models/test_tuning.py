"""Fine-tuning: what each way trains and leaves alone, steps in parts where memory is short, runs from given weights."""

import weakref
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torchvision
from support.runs import left_by, run, spec_of
from support.tuning import MODEL, batch_of, changed, short_of_memory, spec
from torch import nn

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.models.build import build
from fastcifar.models.names import WAYS
from fastcifar.models.tuning import freeze
from fastcifar.runs.directory import RunDirectory
from fastcifar.training.learner import Learner, evaluate
from fastcifar.training.loop import train
from fastcifar.training.options import Options

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tensors():
    torch.manual_seed(0)
    return torchvision.models.get_model(MODEL, num_classes=7).state_dict()


def learner_of(dataset, tensors, **fields):
    return Learner.new(spec(dataset, **fields), 10, CPU, tensors)


def is_statistic(name):
    return "running" in name or "num_batches" in name


# full, head, as-run


@pytest.mark.parametrize("tune", WAYS)
def test_a_step_changes_what_its_way_trains(synthetic, tensors, tune):
    learner = learner_of(synthetic, tensors, tune=tune)
    before = deepcopy(learner.model.state_dict())
    assert torch.equal(before["backbone.features.0.0.weight"], tensors["features.0.0.weight"])
    learner.step(batch_of(synthetic))
    found = changed(before, learner.model.state_dict())
    statistics = {name for name in before if is_statistic(name)}
    head = {"head.weight", "head.bias"}
    assert found == {"full": set(before), "head": head, "as-run": head | statistics}[tune]
    trained = {name for name, parameter in learner.model.named_parameters() if parameter.requires_grad}
    assert trained == found - statistics
    assert {name.split(".", 2)[2] for name in learner.state()[0] if name.startswith("adam.")} == trained


@pytest.mark.parametrize("tune", WAYS)
def test_dropout_drops_but_where_the_backbone_is_as_evaluated(synthetic, tensors, tune):
    learner, batch = learner_of(synthetic, tensors, tune=tune, lr=1e-9), batch_of(synthetic)
    first, same = float(learner.step(batch)), float(learner.step(batch))
    learner.epoch = 1
    other = float(learner.step(batch))
    assert same == pytest.approx(first, rel=1e-4)
    if tune == "head":
        assert other == pytest.approx(first, rel=1e-4)
    else:
        assert abs(other - first) > 1e-3 * first


@pytest.mark.parametrize("tune", WAYS)
def test_evaluation_leaves_training_as_it_was(synthetic, tensors, tune):
    learner, batch = learner_of(synthetic, tensors, tune=tune), batch_of(synthetic)
    modes = [module.training for module in learner.model.modules()]
    assert learner.model.training
    assert learner.model.backbone.training == (tune != "head")
    before = deepcopy(learner.model.state_dict())
    seen = []
    learner.model.head.register_forward_pre_hook(lambda *_: seen.append(learner.model.backbone.training))
    evaluate(learner, iter([batch]))
    assert seen == [False]
    assert [module.training for module in learner.model.modules()] == modes
    assert not changed(before, learner.model.state_dict())


@pytest.mark.whole
@pytest.mark.parametrize("tune", WAYS)
def test_over_a_whole_run(synthetic, tensors, tmp_path, tune):
    """BatchNorm's statistics after a run: those of the file, or others."""
    one = spec(synthetic, tune=tune, weights="0123456789abcdef")
    summary, lines, _ = run(one, synthetic, tmp_path, options=Options(tensors=tensors))
    kept, note = RunDirectory.of(one, tmp_path).load_tensors("model", CPU)
    assert (note["model"], len(lines)) == (MODEL, 2)
    at_first = {f"backbone.{name}": value for name, value in tensors.items() if not name.startswith("classifier.3.")}
    found = changed(at_first, kept)
    if tune == "full":
        assert found == set(at_first)
    else:
        assert found == {name for name in at_first if is_statistic(name) and tune == "as-run"}
    head = 1024 * 10 + 10
    assert summary["parameters"] == (
        sum(p.numel() for p in build(MODEL, 10, 0.0, 0).parameters()) if tune == "full" else head
    )
    assert summary["flops_per_image"] > 0
    assert summary["activation_bytes"] > 0
    for line in RunDirectory.of(one, tmp_path).metrics():
        assert line["peak_share"] == pytest.approx(
            line["images_per_s"] * summary["flops_per_image"] / summary["peak_flops"]
        )
    assert summary["peak_share"] > 0


def test_ways_that_do_not_exist_or_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="tune 'some' is not one of full, head, as-run"):
        freeze(nn.Linear(2, 2), "some")
    with pytest.raises(UsageError, match="tune 'head' is for pretrained networks; Linear is trained as a whole: full"):
        freeze(nn.Linear(2, 2), "head")


@pytest.mark.whole
@pytest.mark.parametrize(("model", "protocol"), [(MODEL, "sound"), (MODEL, "as-run"), ("resnet18", "sound")])
def test_stopped_and_started_again_it_is_as_if_nothing_had_been(synthetic, tmp_path, model, protocol):
    tune = PROTOCOLS[protocol].tune
    one = spec(synthetic, model=model, protocol=protocol, tune=tune, weights="none", epochs=2, batch_size=40)

    def stop(line):
        if line["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(one, synthetic, tmp_path / "stopped", CPU, stop)
    whole = run(one, synthetic, tmp_path / "whole")
    assert len({line["train_loss"] for line in whole[1]}) == 2
    assert run(one, synthetic, tmp_path / "stopped")[1:] == whole[1:] == left_by(one, tmp_path / "whole")


def test_weights_that_do_not_fit_leave_no_run(synthetic, tensors, tmp_path):
    with pytest.raises(UsageError, match=f"weights {'0' * 16}: .* they are of another network"):
        train(spec(synthetic, model="resnet18"), synthetic, tmp_path, CPU, options=Options(tensors=tensors))
    assert not list(tmp_path.rglob("run.json"))


def test_the_way_and_the_weights_make_another_run(synthetic, tmp_path):
    one = spec(synthetic)
    assert one.label.endswith("-sound")
    assert replace(one, tune="head").label.endswith("-head-sound")
    assert len({replace(one, **change).run_id for change in ({}, {"tune": "head"}, {"weights": "none"})}) == 3


# micro-batches


def kept_gradients(learner):
    """What each step's gradients are, as Adam is given them."""
    seen = []
    learner.optimizer.register_step_pre_hook(
        lambda *_: seen.append([parameter.grad.clone() for parameter in learner.model.parameters()])
    )
    return seen


@pytest.mark.parametrize(
    ("most", "sizes", "parts"),
    [(20, [20], 20), (10, [20, 10, 10], 10), (7, [20, 10, 5, 5, 5, 5], 5), (4, [20, 10, 5, 3, 3, 3, 3, 3, 3, 2], 3)],
)
def test_parts_of_a_batch_add_up_to_the_step_of_the_whole(synthetic, most, sizes, parts, monkeypatch):
    batch, said = batch_of(synthetic, 20), []
    whole, short = (Learner.new(spec_of(synthetic), 10, CPU) for _ in range(2))
    gradients = [kept_gradients(learner) for learner in (whole, short)]
    short.say = said.append
    seen = short_of_memory(short.model, most, monkeypatch)
    assert float(short.step(batch)) == pytest.approx(float(whole.step(batch)), rel=1e-5)
    for a, b in zip(*(found[0] for found in gradients), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)
    assert seen == sizes
    short.step(batch)
    assert seen == sizes + [size for size in sizes if size <= parts]  # what did not fit is not tried again
    expected = (
        f"cnn: 20 images at once do not fit on cpu; a step takes them {parts} at a time and adds up the gradients, "
        "which gives the same result to rounding"
    )
    assert said == ([] if parts == 20 else [expected])


def test_an_attempt_that_failed_leaves_no_trace(synthetic, tensors, monkeypatch):
    """Of BatchNorm's statistics: the step is one that had been told the micro-batch from the start."""
    batch = batch_of(synthetic, 16)
    told, found = (learner_of(synthetic, tensors) for _ in range(2))
    told.micro_batch, said = 4, []
    found.say = said.append
    short_of_memory(found.model, 4, monkeypatch)
    assert float(told.step(batch)) == float(found.step(batch))
    assert not changed(told.model.state_dict(), found.model.state_dict())
    assert said == [
        f"{MODEL}: 16 images at once do not fit on cpu; a step takes them 4 at a time and adds up the gradients, and "
        "BatchNorm normalises each part by itself"
    ]


def test_a_frozen_backbone_s_norms_see_no_batch(synthetic, tensors, monkeypatch):
    learner, said = learner_of(synthetic, tensors, tune="head"), []
    learner.say = said.append
    short_of_memory(learner.model, 8, monkeypatch)
    learner.step(batch_of(synthetic))
    assert said[0].endswith("8 at a time and adds up the gradients, which gives the same result to rounding")


def test_memory_of_an_attempt_that_failed_is_free_before_the_next(synthetic, monkeypatch):
    learner, held, alive = Learner.new(spec_of(synthetic), 10, CPU), [], []
    forward = learner.model.forward

    def limited(images, noise=None):
        alive.append([reference() is not None for reference in held])
        activations = forward(images, noise)
        held.append(weakref.ref(activations))
        if len(images) > 5:
            raise torch.OutOfMemoryError("no memory for that")
        return activations

    monkeypatch.setattr(learner.model, "forward", limited)
    learner.step(batch_of(synthetic, 20))
    assert alive[:3] == [[], [False], [False, False]]


def test_where_no_image_fits_the_cure_is_said(synthetic, monkeypatch):
    learner = Learner.new(spec_of(synthetic), 10, CPU)
    sizes = short_of_memory(learner.model, 0, monkeypatch)
    with pytest.raises(
        FastcifarError, match=r"cnn does not fit on cpu, even with a single image .* tune=head"
    ) as failed:
        learner.step(batch_of(synthetic, 20))
    assert failed.value.exit_code == 1
    assert isinstance(failed.value.__cause__, torch.OutOfMemoryError)
    assert sizes == [20, 10, 5, 3, 2, 1]


def test_evaluation_takes_no_more_at_once_than_training(synthetic, monkeypatch):
    learner, batch = Learner.new(spec_of(synthetic), 10, CPU), batch_of(synthetic, 20)
    expected = evaluate(learner, iter([batch]))
    learner.micro_batch = 5
    sizes = short_of_memory(learner.model, 5, monkeypatch)
    assert evaluate(learner, iter([batch])) == pytest.approx(expected, rel=1e-6)
    assert sizes == [5] * 4


def test_memory_that_something_else_took_is_said_and_the_run_goes_on(synthetic, tmp_path, monkeypatch):
    one = spec_of(synthetic, epochs=3)
    whole, step, calls = run(one, synthetic, tmp_path / "whole"), Learner.step, []

    def robbed(self, *arguments):
        calls.append(1)
        if len(calls) == 7:  # in the second epoch
            raise torch.OutOfMemoryError("no memory for that")
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", robbed)
        with pytest.raises(
            FastcifarError, match=r"cpu has no memory left for cnn-.* continues from the last whole epoch"
        ):
            run(one, synthetic, tmp_path / "robbed")
    assert run(one, synthetic, tmp_path / "robbed")[1:] == whole[1:]


def test_images_that_a_network_cannot_take_are_refused(synthetic, monkeypatch):
    learner = Learner.new(spec(synthetic, weights="none"), 10, CPU)

    def too_small(images):
        raise RuntimeError("kernel size can't be greater than actual input size\nmore")

    monkeypatch.setattr(learner.model.backbone, "forward", too_small)
    with pytest.raises(UsageError, match=r"cannot take the images of recipe .none. \(kernel size .* size\); leave"):
        learner.step(batch_of(synthetic))
    learner.spec = replace(learner.spec, recipe="imagenet256")  # its own: whatever it is, it is a bug
    with pytest.raises(RuntimeError, match="kernel size"):
        learner.step(batch_of(synthetic))
