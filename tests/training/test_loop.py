"""The training loop: it learns, repeats itself, survives being killed, and counts as each protocol says."""

import json
import multiprocessing
import os
import random
import signal
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from fastcifar.kernels import reference
from support.runs import CPU, labels, pixels, run, spec_of, untimed
from support.seals import note_of
from torch.nn.functional import cross_entropy

from fastcifar.augment import draw
from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.models.build import build
from fastcifar.models.dropout import Noise
from fastcifar.pipeline import Batch
from fastcifar.rng.philox import Stream, shuffled
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.outcome import LARGEST_LOSS, diverged
from fastcifar.runs.spec import RunSpec
from fastcifar.training import learner, loop
from fastcifar.training.learner import Learner, mean_loss


@pytest.fixture(scope="module")
def learnt(digits, tmp_path_factory):
    """(spec, out, summary, lines, weights) of a run that learns."""
    spec, out = spec_of(digits, batch_size=64, lr=3e-3, epochs=5), tmp_path_factory.mktemp("learnt")
    return spec, out, *run(spec, digits, out)


# learning and what is written of it


@pytest.mark.whole
def test_training_learns_digits(learnt):
    _, _, summary, lines, _ = learnt
    losses = [line["train_loss"] for line in lines]
    assert losses[-1] < 0.6 * losses[0]
    assert lines[-1]["val_loss"] < lines[0]["val_loss"]
    assert summary["val_accuracy"] > 0.7  # chance is 0.1


@pytest.mark.whole
def test_the_summary_is_of_the_kept_epoch(learnt):
    spec, _, summary, lines, _ = learnt
    accuracies = [line["val_accuracy"] for line in lines]
    kept = accuracies.index(max(accuracies)) + 1
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]
    assert (
        summary.items()
        >= {
            "status": "finished",
            "epochs": spec.epochs,
            "kept_epoch": kept,
            "val_accuracy": max(accuracies),
            "val_loss": lines[kept - 1]["val_loss"],
            "parameters": 376_834,
        }.items()
    )


@pytest.mark.whole
def test_what_is_measured_is_plausible(learnt):
    spec, out, summary, _, _ = learnt
    lines = RunDirectory.of(spec, out).metrics()
    for line in lines:
        assert 0 < 1200 / line["images_per_s"] <= line["seconds"]  # training is a part of the epoch
        assert 0 <= line["stall"] < 1
    assert summary["seconds"] == pytest.approx(sum(line["seconds"] for line in lines))
    assert min(line["images_per_s"] for line in lines) <= summary["images_per_s"]


@pytest.mark.whole
def test_the_run_directory_holds_what_it_should(learnt, digits):
    spec, out, summary, _, _ = learnt
    directory = RunDirectory.of(spec, out)
    assert sorted(file.name for file in directory.path.iterdir()) == [
        "lock", "metrics.jsonl", "model.safetensors", "run.json", "summary.json",
    ]  # fmt: skip
    written = json.loads((directory.path / "run.json").read_text())
    assert RunSpec(**written["spec"]) == spec
    about = {"name": digits.name, "sha256": digits.sha256, "classes": list("0123456789"), "verified": True}
    assert written["dataset"] == about | digits.facts()
    assert written["device"] == "cpu"
    assert {"cpu", "commit", "versions"} <= written["environment"].keys()
    assert directory.summary() == summary


def kept_model(spec, out):
    tensors, note = RunDirectory.of(spec, out).load_tensors("model", CPU)
    model = build(spec.model, 10, spec.dropout, seed=12345)
    model.load_state_dict(tensors)
    return model, note


@pytest.mark.whole
def test_the_kept_weights_give_the_recorded_accuracy(learnt, digits):
    spec, out, summary, _, _ = learnt
    model, note = kept_model(spec, out)
    epoch = summary["kept_epoch"]
    path = RunDirectory.of(spec, out).path
    before = note_of(path, epoch - 1)["line"]
    assert note == note_of(path, epoch) | {"model": "cnn", "before": before}
    ids = digits.ids("validation")
    with torch.inference_mode():
        logits = model(pixels(digits, ids))
    right = int((logits.argmax(1) == labels(digits, ids)).sum())
    assert right / len(ids) == summary["val_accuracy"]


# repetition


def test_a_run_repeats_itself(synthetic, tmp_path):
    spec = spec_of(synthetic, recipe="erasing")
    summary, lines, weights = run(spec, synthetic, tmp_path / "one")
    again, lines_again, weights_again = run(spec, synthetic, tmp_path / "two")
    assert (lines, weights) == (lines_again, weights_again)
    assert untimed([summary]) == untimed([again])


@pytest.mark.parametrize("change", [{"seed": 1}, {"recipe": "erasing"}, {"dropout": 0.1}, {"l2": 0.1}, {"lr": 1e-3}])
def test_and_another_run_is_another(synthetic, tmp_path, change):
    spec = spec_of(synthetic, epochs=1)
    assert run(spec, synthetic, tmp_path)[1] != run(replace(spec, **change), synthetic, tmp_path)[1]


def test_the_number_of_epochs_asked_for_does_not_change_them(synthetic, tmp_path):
    short, long = spec_of(synthetic, epochs=2), spec_of(synthetic, epochs=3)
    assert run(short, synthetic, tmp_path)[1] == run(long, synthetic, tmp_path)[1][:2]


@pytest.mark.whole
def test_a_finished_run_is_not_trained_again(learnt, digits, monkeypatch):
    spec, out, summary, lines, weights = learnt
    monkeypatch.setattr(Learner, "step", None)
    watched = []
    assert run(spec, digits, out, watch=watched.append) == (summary, lines, weights)
    assert watched == []


def test_a_run_of_another_dataset_is_refused(synthetic, digits, tmp_path):
    with pytest.raises(UsageError, match=f"the run is of dataset {synthetic.sha256[:12]}, but .*digits is"):
        loop.train(spec_of(synthetic), digits, tmp_path, CPU)
    assert not any(tmp_path.iterdir())


def test_a_pipeline_that_does_not_exist_leaves_no_run(synthetic, tmp_path):
    with pytest.raises(UsageError, match="pipeline 'garden' does not exist"):
        loop.train(spec_of(synthetic, pipeline="garden"), synthetic, tmp_path, CPU)
    assert not list(tmp_path.rglob("run.json"))


# killed and started again


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_when(owner, name, when=lambda *_: True, nth=1, after=False):
    """Have the nth call of a method of ``owner`` for which ``when`` holds kill this process."""
    method, calls = getattr(owner, name), count(1)

    def deadly(*arguments, **more):
        fatal = when(*arguments) and next(calls) == nth
        if fatal and not after:
            die()
        result = method(*arguments, **more)
        if fatal:
            die()
        return result

    setattr(owner, name, deadly)


def half_a_line(directory, line):
    with open(directory.path / "metrics.jsonl", "ab") as file:
        file.write(json.dumps(line).encode()[:30])
    die()


def written(name):
    return lambda _, target: Path(target).name == name


MOMENTS = {
    "before anything is written": lambda: die_when(Path, "replace", written("run.json")),
    "in the first epoch": lambda: die_when(Learner, "step", nth=2),
    "in the third epoch": lambda: die_when(Learner, "step", nth=13),
    "in the second validation": lambda: die_when(loop, "evaluate", nth=2),
    "while the weights are written": lambda: die_when(Path, "replace", written("model.safetensors")),
    "after the weights": lambda: die_when(Path, "replace", written("model.safetensors"), 1, after=True),
    "within a line of metrics": lambda: setattr(RunDirectory, "append_metrics", half_a_line),
    "after the second line": lambda: die_when(RunDirectory, "append_metrics", nth=2, after=True),
    "while a checkpoint is written": lambda: die_when(Path, "replace", written("checkpoint.safetensors"), 2),
    "after a checkpoint": lambda: die_when(Path, "replace", written("checkpoint.safetensors"), 2, after=True),
    "before the summary": lambda: die_when(Path, "replace", written("summary.json")),
    "after the summary": lambda: die_when(Path, "unlink"),
}


def trainer(spec, dataset, out, moment):
    """What the process that is killed does."""
    torch.set_num_threads(1)
    if moment:
        MOMENTS[moment]()
    loop.train(spec, Dataset.open(dataset), out, CPU)


@pytest.fixture(scope="module")
def start():
    """Start a process that trains. Processes are forked off one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_train", "torch._dynamo"])  # Adam imports the latter

    def start(spec, dataset, out, moment=None):
        process = context.Process(target=trainer, args=(spec, dataset.path, out, moment))
        process.start()
        return process

    return start


@pytest.fixture(scope="module")
def uninterrupted(synthetic, tmp_path_factory):
    """(summary, lines, weights) of the runs that others interrupt."""
    out = tmp_path_factory.mktemp("uninterrupted")
    return {spec: run(spec, synthetic, out) for spec in (killed_spec(synthetic, name) for name in PROTOCOLS)}


def killed_spec(synthetic, protocol):
    return spec_of(synthetic, protocol=protocol, recipe="erasing")


@pytest.mark.whole
def test_the_run_that_is_killed_tells_epochs_apart(uninterrupted):
    for _, lines, _ in uninterrupted.values():
        assert len({line["train_loss"] for line in lines}) == len({line["val_loss"] for line in lines}) == 4


@pytest.mark.whole
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_started_again_it_is_as_if_nothing_had_been(moment, start, synthetic, uninterrupted, tmp_path):
    protocol = "as-run" if list(MOMENTS).index(moment) % 2 else "sound"
    spec = killed_spec(synthetic, protocol)
    process = start(spec, synthetic, tmp_path, moment)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    watched = []
    summary, lines, weights = run(spec, synthetic, tmp_path, watch=watched.append)
    expected_summary, expected_lines, expected_weights = uninterrupted[spec]
    assert lines == expected_lines
    assert weights == expected_weights
    assert untimed([summary]) == untimed([expected_summary])
    assert untimed(watched) == (expected_lines if moment != "after the summary" else [])


@pytest.mark.whole
def test_killed_at_any_time_and_any_number_of_times(start, digits, tmp_path):
    spec = spec_of(digits, batch_size=128, recipe="basic")
    chance = random.Random(0)
    for _ in range(4):
        process = start(spec, digits, tmp_path / "killed")
        process.join(chance.uniform(0.7, 2.0))  # about one until the first epoch, and a quarter for each
        process.kill()
        process.join()
    assert run(spec, digits, tmp_path / "killed")[1:] == run(spec, digits, tmp_path / "whole")[1:]


@pytest.mark.whole
def test_float16_s_loss_scale_survives_an_interruption(synthetic, tmp_path, monkeypatch):
    spec = spec_of(synthetic, precision="float16", epochs=3)
    monkeypatch.setattr(learner.torch.amp.GradScaler.__init__, "__defaults__", ("cpu", 2.0**20, 2.0, 0.5, 3, True))
    whole = run(spec, synthetic, tmp_path / "whole")
    assert len({line["train_loss"] for line in whole[1]}) == 3  # not every step was left out for its infinities

    class Stopped(Exception):
        pass

    def stop(line):
        if line["epoch"] == 2:
            raise Stopped

    with pytest.raises(Stopped):
        run(spec, synthetic, tmp_path / "stopped", watch=stop)
    _, note = RunDirectory.of(spec, tmp_path / "stopped").load_tensors("checkpoint", CPU)
    assert note["scaler"]["scale"] != 2.0**20
    assert run(spec, synthetic, tmp_path / "stopped")[1:] == whole[1:]


def test_a_damaged_checkpoint_is_said(synthetic, tmp_path):
    spec = spec_of(synthetic)

    def damage(_):
        file = RunDirectory.of(spec, tmp_path).path / "checkpoint.safetensors"
        file.write_bytes(file.read_bytes()[:1000])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(spec, synthetic, tmp_path, watch=damage)
    with pytest.raises(FastcifarError, match=r"checkpoint\.safetensors is damaged .*; delete .* to train it anew"):
        run(spec, synthetic, tmp_path)


def test_two_sessions_do_not_train_one_run(synthetic, tmp_path):
    spec = spec_of(synthetic)
    with RunDirectory.of(spec, tmp_path).locked(), pytest.raises(FastcifarError, match="another process is training"):
        run(spec, synthetic, tmp_path)


# the end of a run


@pytest.mark.whole
@pytest.mark.parametrize(("protocol", "epochs", "kept"), [("sound", 30, 1), ("as-run", 32, 32)])
def test_a_run_that_gets_nowhere_is_stopped_early(synthetic, tmp_path, protocol, epochs, kept):
    spec = spec_of(synthetic, protocol=protocol, lr=1e-9, dropout=0.0, epochs=100)
    summary, lines, _ = run(spec, synthetic, tmp_path)
    assert len({line["val_accuracy"] for line in lines}) == 1
    assert (summary["epochs"], summary["kept_epoch"], len(lines)) == (epochs, kept, epochs)
    assert kept_model(spec, tmp_path)[1]["epoch"] == kept


def test_a_run_that_diverges_is_said_to(synthetic, tmp_path):
    """After one step of 10 in every weight, float16's largest number is too small for the activations."""
    spec = spec_of(synthetic, lr=10.0, dropout=0.0, precision="float16")
    summary, lines, weights = run(spec, synthetic, tmp_path)
    assert lines == [{"epoch": 1, "train_loss": None, "val_loss": None, "val_accuracy": None, "lr": 10.0}]
    assert weights is None
    found = {"status": "diverged", "epochs": 1, "kept_epoch": None, "val_accuracy": None, "val_loss": None}
    assert summary.items() >= found.items()
    directory = RunDirectory.of(spec, tmp_path).path
    for name in ("metrics.jsonl", "summary.json"):
        text = (directory / name).read_text()
        assert "NaN" not in text
        assert "Infinity" not in text


@pytest.mark.parametrize(
    ("training", "validation", "expected"),
    [
        (2.3, 2.3, False),
        (LARGEST_LOSS, LARGEST_LOSS, False),
        (1.01 * LARGEST_LOSS, 2.3, True),
        (2.3, 1.01 * LARGEST_LOSS, True),
        (None, 2.3, True),
        (2.3, None, True),
    ],
)
def test_what_counts_as_divergence(training, validation, expected):
    better, last = {"train_loss": 2.0, "val_loss": 2.0}, {"train_loss": training, "val_loss": validation}
    assert diverged([better, last]) is expected
    assert not diverged([last, better])
    assert not diverged([])


@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("of", ["training", "validation"])
def test_what_a_diverged_run_keeps_is_from_before(digits, tmp_path, monkeypatch, of, at):
    spec = spec_of(digits, batch_size=64, lr=3e-3, epochs=5)
    epochs = count(1)

    def lost(function):
        def wrapped(*arguments):
            result = function(*arguments)
            if next(epochs) < at:
                return result
            return float("inf") if of == "training" else (float("nan"), 0.99)

        return wrapped

    name = "mean_loss" if of == "training" else "evaluate"
    monkeypatch.setattr(loop, name, lost(getattr(loop, name)))
    summary, lines, weights = run(spec, digits, tmp_path)
    assert (summary["status"], summary["epochs"], len(lines)) == ("diverged", at, at)
    assert lines[-1]["train_loss" if of == "training" else "val_loss"] is None
    if at == 1:
        assert (summary["kept_epoch"], summary["val_accuracy"], weights) == (None, None, None)
    else:
        assert summary["kept_epoch"] == kept_model(spec, tmp_path)[1]["epoch"] < at
        assert summary["val_accuracy"] == max(line["val_accuracy"] for line in lines[:-1])


# what the protocols say


def losses_of(model, dataset, ids):
    with torch.inference_mode():
        return cross_entropy(model(pixels(dataset, ids)), labels(dataset, ids), reduction="none").double()


def mean_of_means(losses, size):
    return torch.stack([part.mean() for part in losses.split(size)]).mean()


@pytest.mark.whole
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_losses_are_means_of_samples_or_of_batches(protocol, learnt, digits, tmp_path, monkeypatch):
    """A run that starts from what another learnt and stands still, against its losses sample by sample."""
    model, _ = kept_model(*learnt[:2])
    model.dropout.p = 0.0
    monkeypatch.setattr(learner, "build", lambda *_: model)
    spec = spec_of(digits, protocol=protocol, lr=1e-9, dropout=0.0, epochs=1, batch_size=128)
    _, (line,), _ = run(spec, digits, tmp_path)
    split_seed = spec.seed if protocol == "as-run" else None
    order = shuffled(digits.ids("training", split_seed), spec.seed, Stream.ORDER, 1)
    for key, ids in (("train_loss", order), ("val_loss", digits.ids("validation", split_seed))):
        losses = losses_of(model, digits, ids)
        by_sample, by_batch = float(losses.mean()), float(mean_of_means(losses, 128))
        assert abs(by_sample - by_batch) > 1e-3  # so that one cannot pass for the other
        assert line[key] == pytest.approx(by_batch if protocol == "as-run" else by_sample, abs=2e-5)


def test_means_by_hand():
    losses = torch.tensor([1.0, 4.0])
    assert mean_loss(losses, [3, 1], batch_means=False) == 1.75
    assert mean_loss(losses, [3, 1], batch_means=True) == 2.5
    assert np.isnan(mean_loss(torch.tensor([float("nan"), 1.0]), [1, 1], False))


def validation_images(spec, dataset, epoch):
    training, validation = loop.open_pipelines(spec, dataset, CPU)
    with training, validation:
        assert training.request.split == "training"
        batches = [Batch(batch.images.clone(), batch.labels, batch.ids) for batch in validation.epoch(epoch)]
    return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


@pytest.mark.parametrize("protocol", ["sound", "report"])
def test_validation_images_are_clean(synthetic, protocol):
    spec = spec_of(synthetic, protocol=protocol, recipe="erasing")
    ids = synthetic.ids("validation")
    for epoch in (1, 2):
        batch = validation_images(spec, synthetic, epoch)
        assert batch.ids.tolist() == ids.tolist()
        assert batch.labels.tolist() == labels(synthetic, ids).tolist()
        torch.testing.assert_close(batch.images, pixels(synthetic, ids), check_stride=False)


def test_the_authors_augmented_them(synthetic):
    spec = spec_of(synthetic, protocol="as-run", recipe="erasing", seed=3)
    ids = synthetic.ids("validation", 3)
    augment = PROTOCOLS["as-run"].recipe("erasing")
    images = torch.from_numpy(synthetic.images("train")[ids])
    for epoch in (1, 2):
        expected = reference.apply(images, draw(augment, 3, epoch, ids), augment)
        torch.testing.assert_close(
            validation_images(spec, synthetic, epoch).images, expected, atol=1e-5, rtol=0, check_stride=False
        )
        assert (expected - pixels(synthetic, ids)).abs().max() > 0.5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_training_images_are_augmented_by_the_run_s_seed(synthetic, protocol):
    spec = spec_of(synthetic, protocol=protocol, recipe="erasing", seed=2, batch_size=80)
    augment = PROTOCOLS[protocol].recipe("erasing")
    training, validation = loop.open_pipelines(spec, synthetic, CPU)
    with training, validation:
        (batch,) = training.epoch(5)
        ids = batch.ids.numpy()
        expected = reference.apply(torch.from_numpy(synthetic.images("train")[ids]), draw(augment, 2, 5, ids), augment)
        torch.testing.assert_close(batch.images, expected, atol=1e-5, rtol=0, check_stride=False)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_the_authors_redrew_the_split(synthetic, protocol):
    own = set(synthetic.ids("validation").tolist())
    seen = {}
    for seed in (1, 2):
        pipelines = loop.open_pipelines(spec_of(synthetic, protocol=protocol, seed=seed), synthetic, CPU)
        parts = []
        for pipeline in pipelines:
            with pipeline:
                parts.append([id_ for batch in pipeline.epoch(1) for id_ in batch.ids.tolist()])
        assert sorted(parts[0] + parts[1]) == list(range(100))
        assert len(parts[1]) == 20
        seen[seed] = set(parts[1])
    if protocol == "as-run":
        assert len({frozenset(own), *map(frozenset, seen.values())}) == 3
    else:
        assert seen[1] == seen[2] == own


# precision


@pytest.mark.whole
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_is_near_float32(digits, tmp_path, precision):
    spec = spec_of(digits, batch_size=128, lr=1e-3, recipe="basic", epochs=1)
    _, (expected,), _ = run(spec, digits, tmp_path)
    reduced = replace(spec, precision=precision)
    _, (line,), _ = run(reduced, digits, tmp_path)
    for key in ("train_loss", "val_loss"):
        assert line[key] != expected[key]
        assert line[key] == pytest.approx(expected[key], rel=0.02)
    tensors, _ = RunDirectory.of(reduced, tmp_path).load_tensors("model", CPU)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_pixels_come_in_the_run_s_precision(synthetic, precision):
    assert validation_images(spec_of(synthetic, precision=precision), synthetic, 1).images.dtype == getattr(
        torch, precision
    )


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_on_cuda_a_run_learns_and_goes_on(digits, tmp_path, precision):
    spec, cuda = spec_of(digits, batch_size=64, lr=3e-3, epochs=5, precision=precision), torch.device("cuda")

    def stop(line):
        if line["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train(spec, digits, tmp_path, cuda, stop)
    assert loop.train(spec, digits, tmp_path, cuda)["val_accuracy"] > 0.7


def test_a_step_is_adam_s_with_coupled_weight_decay(synthetic):
    """Against the formula (Kingma and Ba, 2015) in float64, for two steps."""
    spec = spec_of(synthetic, lr=0.01, l2=0.1, dropout=0.0)
    one = Learner.new(spec, 10, CPU)
    weight = one.model.head.weight
    expected, m, v = weight.detach().double().clone(), 0.0, 0.0
    for step in (1, 2):
        ids = np.arange(16 * step, 16 * step + 16)
        batch = Batch(pixels(synthetic, ids), labels(synthetic, ids), torch.from_numpy(ids))
        (gradient,) = torch.autograd.grad(cross_entropy(one.model(batch.images), batch.labels), [weight])
        gradient = gradient.double() + 0.1 * expected
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        expected = expected - 0.01 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
        one.step(batch)
        torch.testing.assert_close(weight.detach().double(), expected, atol=1e-6, rtol=1e-4)


def test_dropout_s_noise_is_that_of_the_epoch_and_the_samples(synthetic):
    spec = spec_of(synthetic, seed=9)
    one = Learner.new(spec, 10, CPU)
    ids = torch.tensor([7, 3, 60])
    batch = Batch(pixels(synthetic, ids.numpy()), labels(synthetic, ids.numpy()), ids)
    for epoch in (0, 4):
        one.epoch = epoch
        with torch.no_grad():
            expected = cross_entropy(one.model(batch.images, Noise.of(9, epoch + 1, ids)), batch.labels)
        assert float(one.step(batch)) == pytest.approx(float(expected))
