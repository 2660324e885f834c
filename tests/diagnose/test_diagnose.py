"""The experiment on BatchNorm: its arms differ only in what they should, and what is said follows from the numbers."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from math import nan, sqrt

import pytest
import torch
from PIL import Image
from support.text import text_of

from fastcifar.diagnose import picture, record, verdict
from fastcifar.diagnose.batchnorm import Arm, Evaluation, Experiment, Sample, Statistics, arms_of
from fastcifar.diagnose.verdict import Finding, finding, findings, jump, sentence
from fastcifar.errors import UsageError
from fastcifar.models.published import NONE, Weights
from fastcifar.runs.plan import headline_runs
from fastcifar.system import machine
from fastcifar.training.batches import open_pipelines
from fastcifar.training.learner import Learner, evaluate

CPU = torch.device("cpu")
EPOCHS, LAST = 2, 3
FAST, SLOW, EVAL = (arm.name for arm in arms_of([0.5, 0.01]))


@pytest.fixture(scope="module")
def small(digits):
    return Sample(digits, 40, seed=3)


def experiment(dataset, arms=(0.5, 0.01), last=LAST, **overrides):
    overrides = {"recipe": "none", "batch_size": 8, "lr": 1e-3, "epochs": EPOCHS} | overrides
    (spec,) = headline_runs(4, dataset, model="resnet18", seeds=[1], overrides=overrides)
    return Experiment(spec, dataset, Weights(NONE, {}), CPU, arms_of(arms), last)


@pytest.fixture(scope="module")
def evaluations(small):
    return list(experiment(small))


def of(evaluations, arm):
    return [evaluation for evaluation in evaluations if evaluation.arm == arm]


# the experiment


def test_every_arm_is_evaluated_at_the_start_and_after_an_epoch_s_last_steps(small, evaluations):
    assert len(evaluations) == len(experiment(small)) == 3 * (1 + EPOCHS * LAST)
    for arm in (FAST, SLOW, EVAL):
        places = [(evaluation.epoch, evaluation.step) for evaluation in of(evaluations, arm)]
        assert places == [(0, 0), (1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5)]
    assert [evaluation.arm for evaluation in evaluations] == sorted(
        (evaluation.arm for evaluation in evaluations), key=[FAST, SLOW, EVAL].index
    )


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


def test_only_training_mode_moves_the_statistics_and_momentum_by_how_much(evaluations):
    for evaluation in of(evaluations, EVAL):
        assert evaluation.moved == evaluation.moved_most == 0
        assert (evaluation.restored_loss, evaluation.restored_accuracy) == (evaluation.loss, evaluation.accuracy)
    for fast, slow in zip(of(evaluations, FAST)[1:], of(evaluations, SLOW)[1:], strict=True):
        assert fast.moved_most > fast.moved > 3 * slow.moved > 0
        assert fast.loss != fast.restored_loss
        assert slow.loss != slow.restored_loss


def test_momentum_changes_what_is_evaluated_not_what_is_learnt(evaluations):
    for fast, slow in zip(of(evaluations, FAST), of(evaluations, SLOW), strict=True):
        assert (fast.restored_loss, fast.restored_accuracy) == (slow.restored_loss, slow.restored_accuracy)
    assert of(evaluations, FAST)[-1].restored_loss != of(evaluations, EVAL)[-1].restored_loss


def test_evaluating_more_often_changes_nothing(small, evaluations):
    more = {(found.arm, found.epoch, found.step): found for found in experiment(small, arms=[0.5], last=4)}
    usual = {(found.arm, found.epoch, found.step): found for found in evaluations}
    shared = more.keys() & usual.keys()
    assert len(shared) == 2 * (1 + EPOCHS * LAST)
    assert all(more[place] == usual[place] for place in shared)


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
    assert "a step takes them 4 at a time and adds up the gradients, and BatchNorm sees those" in told[0]


def test_restored_statistics_are_the_initial_ones_for_a_while_and_nothing_else_changes(small):
    (spec,) = headline_runs(
        4, small, model="resnet18", seeds=[0], overrides={"recipe": "none", "batch_size": 8, "tune": "as-run"}
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
        with pytest.raises(UsageError, match="at least 2 epochs are needed, since the first is left out, and 3 eval"):
            experiment(small, epochs=epochs, last=last)


def test_no_more_evaluations_than_steps(small):
    assert experiment(small, last=100).each_epoch == 5


# the numbers


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
    assert record.rows([found])[0][4] == "none"


def arm(name, size, restored, compared=54):
    return Finding(name, 1.0, 0.5, 1.0, size, restored, size, restored, 0.1, 0.2, compared)


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
        "Nothing can be said, as validation losses were not finite (training mode, momentum 0.1)."
    )


def test_the_sentence_is_about_the_least_steady_arm():
    text = sentence([arm(SLOW, 0.04, 0.02), arm(FAST, 0.3, 0.02), arm(EVAL, 0.02, 0.02)])
    assert text.startswith(f"In {FAST}, the validation loss jumps by 0.3 from")
    assert f"15 times the 0.02 of eval mode (0.04 in {SLOW});" in text


def test_large_numbers_are_written_out():
    assert "jumps by 3 from one step to the next (300 % of it), 300 times the 0.01 of eval" in said(3.0, 0.0, 0.01)


def test_arms():
    assert [found.name for found in arms_of([0.1, 0.01])] == [
        "training mode, momentum 0.1", "training mode, momentum 0.01", "eval mode",
    ]  # fmt: skip
    assert [Arm(0.1).tune, Arm().tune] == ["as-run", "head"]
    for momenta in ([], [0.1, 0.1], [0.0], [1.5], [nan]):
        with pytest.raises(UsageError, match=r"different numbers in \(0, 1\] are needed"):
            arms_of(momenta)


# what is written


def test_the_picture_shows_every_arm_and_what_is_restored(evaluations, tmp_path, monkeypatch):
    figures = []

    class Kept(picture.Figure):
        def __init__(self, **options):
            super().__init__(**options)
            figures.append(self)

    monkeypatch.setattr(picture, "Figure", Kept)
    picture.draw(evaluations, "a title", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1500, 975)
    (figure,) = figures
    losses, accuracies, steps, moved = figure.axes
    assert figure.get_suptitle() == "a title"
    assert [text.get_text() for text in figure.legends[0].texts] == [FAST, SLOW, EVAL, picture.RESTORED]
    restored = [f"{name}: {picture.RESTORED}" for name in (FAST, SLOW)]
    for axes in (losses, accuracies, steps):
        assert [drawn.get_label() for drawn in axes.lines] == [FAST, restored[0], SLOW, restored[1], EVAL]
    assert [drawn.get_label() for drawn in moved.lines] == [FAST, FAST, SLOW, SLOW, EVAL, EVAL]
    found = of(evaluations, FAST)
    ends = [found[0], found[3], found[6]]
    assert losses.lines[0].get_xdata().tolist() == [0, 1, 2]
    assert losses.lines[0].get_ydata().tolist() == [end.loss for end in ends]
    assert losses.lines[1].get_ydata().tolist() == [end.restored_loss for end in ends]
    assert accuracies.lines[0].get_ydata().tolist() == [100 * end.accuracy for end in ends]
    by_step = steps.lines[0].get_ydata().tolist()
    assert by_step == pytest.approx(
        [*(e.loss for e in found[1:4]), nan, *(e.loss for e in found[4:]), nan], nan_ok=True
    )
    assert all(0.5 < x <= 1.5 for x in steps.lines[0].get_xdata()[:4])
    assert moved.lines[1].get_ydata()[0] == found[1].moved_most


def test_tables(evaluations):
    found = findings(evaluations)
    text = record.markdown(evaluations, found)
    assert text.startswith(f"{sentence(found)}\n\n| arm | loss | restored |")
    assert verdict.DEFINITION in text
    assert f"\n| epoch | {FAST} | {SLOW} | {EVAL} |\n" in text
    last = of(evaluations, EVAL)[-1]
    assert text.splitlines()[-1].startswith("| 2 | ")
    assert text.splitlines()[-1].endswith(f" | {last.loss:.3g} ({100 * last.accuracy:.2f}) |")
    for name in (FAST, SLOW, EVAL):
        assert name in text_of(record.table(found))


# the command


TINY = ("--weights", "none", "--recipe", "none", "--epochs", 2, "--last", 3, "--images", 30, "--batch-size", 8,
        "--device", "cpu", "--momenta", "0.1")  # fmt: skip


def test_the_command_writes_a_folder(command, digits, tmp_path):
    out = tmp_path / "made" / "bn"
    answer = command("diagnose", "bn", "--data", digits.path, "--out", out, *TINY)
    assert (answer.code, answer.err) == (0, "")
    assert {file.name for file in out.iterdir()} == record.FILES
    summary = json.loads((out / "summary.json").read_text())
    assert answer.out.splitlines()[-2:] == [summary["sentence"], f"tables, picture and rows: {out}"]
    assert summary["images"] == {"training": 30, "validation": 30}
    assert summary["spec"]["dataset"] == digits.sha256
    assert {"device", "environment", "dataset", "steps", "evaluations_an_epoch"} <= summary.keys()
    rows = [json.loads(line) for line in (out / "evaluations.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * (1 + 2 * 3)
    assert findings([Evaluation(**row) for row in rows])[0].jump == summary["arms"][0]["jump"]
    assert summary["sentence"] in (out / "table.md").read_text()

    refused = command("diagnose", "bn", "--data", digits.path, "--out", out, *TINY)
    assert refused.code == 2
    assert f"{out} exists; choose another --out" in refused.err
    again = command("diagnose", "bn", "--data", digits.path, "--out", out, *TINY, "--overwrite", "--json")
    assert (again.code, again.err) == (0, "")
    assert json.loads(again.out)["arms"] == summary["arms"]
    assert json.loads(again.out)["folder"] == str(out)
    assert [path.name for path in out.parent.iterdir()] == ["bn"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "squeezenet1_0"], "SqueezeNet does not end in one linear layer"),
        (["--model", "convnext_tiny"], "convnext_tiny has no BatchNorm with running statistics, so none can drift"),
        (["--model", "resnet19"], "model 'resnet19' does not exist"),
        (["--momenta", "fast"], "--momenta 'fast' is not a list of numbers such as 0.1,0.01"),
        (["--momenta", "2"], "momenta 2.0: different numbers in (0, 1] are needed"),
        (["--weights", "none", "--images", 0], "--images 0 must be at least 1"),
        (
            ["--weights", "none", "--epochs", 1, "--images", 30, "--batch-size", 8],
            "1 epochs with 4 evaluations at the end of each, as an epoch has 4 steps: at least 2 epochs",
        ),
        (["--weights", "nowhere.pth"], "weights nowhere.pth: No such file or directory"),
    ],
)
def test_what_cannot_be_is_refused_at_once(command, digits, tmp_path, arguments, message):
    answer = command("diagnose", "bn", "--data", digits.path, "--out", tmp_path / "bn", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert not any(tmp_path.iterdir())


def test_overwriting_replaces_diagnoses_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="is not a diagnosis, and --overwrite replaces nothing else"):
        record.check(tmp_path, overwrite=True)
    with pytest.raises(UsageError, match="is not a diagnosis"):
        record.check(tmp_path / "letter.txt", overwrite=True)


def test_help_has_an_example_and_answers_at_once(command):
    answer = command("diagnose", "bn", "--help")
    assert answer.code == 0
    assert "Example: fastcifar diagnose bn" in answer.out
    assert "Settle a question about training" in command("diagnose", "--help").out
    code = "import sys, fastcifar.cli.diagnose; print(*sys.modules)"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=machine.CHECKOUT, env=environment
    )
    assert not {"torch", "numpy", "matplotlib"} & set(ran.stdout.split())
