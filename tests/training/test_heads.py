"""Cached features: the heads trained on them are those trained without, for each seed, whoever trains beside it."""

import dataclasses

import pytest
import torch

from fastcifar.errors import FastcifarError
from fastcifar.models.build import build
from fastcifar.recipes import RECIPES
from fastcifar.runs.directory import TIMING, RunDirectory
from fastcifar.runs.spec import RunSpec
from fastcifar.training import features, heads, session
from fastcifar.training.features import features_of
from fastcifar.training.heads import can_be_cached, train_heads
from fastcifar.training.learner import Learner
from fastcifar.training.loop import train
from fastcifar.training.options import Options

CPU = torch.device("cpu")


def specs_of(dataset, seeds=(0, 1, 2), **fields):
    """Runs of ResNet18's head at 32 x 32 pixels, where it is small."""
    common = {
        "experiment": 4, "protocol": "sound", "model": "resnet18", "batch_size": 16, "lr": 1e-2, "l2": 0.0,
        "dropout": 0.0, "recipe": "none", "dataset": dataset.sha256, "epochs": 3, "precision": "float32",
        "tune": "head", "weights": "0123456789abcdef",
    }  # fmt: skip
    return [RunSpec(seed=seed, **common | fields) for seed in seeds]


@pytest.fixture(scope="module")
def tensors():
    """Of a backbone, in torchvision's names."""
    model = build("resnet18", 10, 0.0, seed=99)
    return model.backbone.state_dict()


def lines_of(spec, out):
    measured = (*TIMING, "peak_share")
    return [
        {key: value for key, value in line.items() if key not in measured}
        for line in RunDirectory.of(spec, out).metrics()
    ]


@pytest.fixture(scope="module")
def trained(synthetic, tensors, tmp_path_factory):
    """(specs, folder) of three seeds that were trained at once."""
    specs, out = specs_of(synthetic), tmp_path_factory.mktemp("heads")
    train_heads(specs, synthetic, out, CPU, options=Options(tensors=tensors))
    return specs, out


@pytest.mark.whole
def test_it_is_the_training_without_a_cache_to_rounding(trained, synthetic, tensors, tmp_path):
    specs, out = trained
    train(specs[1], synthetic, tmp_path, CPU, options=Options(tensors=tensors))
    for got, wanted in zip(lines_of(specs[1], out), lines_of(specs[1], tmp_path), strict=True):
        assert got["val_accuracy"] == wanted["val_accuracy"]
        for key in ("train_loss", "val_loss"):
            assert got[key] == pytest.approx(wanted[key], rel=1e-4)
    (mine, note), (theirs, other) = (
        RunDirectory.of(specs[1], folder).load_tensors("model", CPU) for folder in (out, tmp_path)
    )
    assert [{**each, "line": None, "before": None} for each in (note, other)] == 2 * [
        {"epoch": note["epoch"], "model": "resnet18", "line": None, "before": None}
    ]
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.allclose(value, theirs[name], rtol=1e-3, atol=1e-5), name


def test_a_seed_alone_is_a_seed_among_others(trained, synthetic, tensors, tmp_path):
    specs, out = trained
    train_heads(specs[2:], synthetic, tmp_path, CPU, options=Options(tensors=tensors))
    for got, wanted in zip(lines_of(specs[2], tmp_path), lines_of(specs[2], out), strict=True):
        assert got["train_loss"] == pytest.approx(wanted["train_loss"], rel=1e-6)
        assert got["val_loss"] == pytest.approx(wanted["val_loss"], rel=1e-6)
    assert lines_of(specs[0], out) != lines_of(specs[1], out)


@pytest.mark.whole
def test_features_are_computed_once(trained, synthetic, tensors, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "_computed", None)  # not to be called
    summaries = train_heads(specs_of(synthetic, lr=1e-3), synthetic, tmp_path, CPU, options=Options(tensors=tensors))
    assert [summary["features_seconds"] for summary in summaries] == [0.0] * 3
    assert {summary["status"] for summary in summaries} == {"finished"}


def test_features_are_what_the_last_layer_is_given(trained, synthetic, tensors):
    learner = Learner.new(trained[0][0], 10, CPU, tensors)
    found = features_of(learner, synthetic)
    images = torch.from_numpy(synthetic.images("train")[:7].copy()).permute(0, 3, 1, 2) / 255
    learner.model.eval()
    with torch.inference_mode():
        assert torch.allclose(found.values[:7], learner.model.features(images), rtol=1e-4, atol=1e-5)
    assert found.labels.tolist() == synthetic.labels("train").tolist()
    assert found.seconds == 0.0


@pytest.mark.parametrize("change", [{"recipe": "imagenet"}, {"precision": "bfloat16"}])
def test_what_changes_features_changes_their_address(change, synthetic, tensors):
    (spec,) = specs_of(synthetic, seeds=[0])
    one = Learner.new(spec, 10, CPU, tensors)
    other = dataclasses.replace(one, spec=dataclasses.replace(spec, **change))
    assert features._address(one, synthetic) != features._address(other, synthetic)
    same = dataclasses.replace(one, spec=dataclasses.replace(spec, seed=5, lr=1.0, epochs=9))
    assert features._address(one, synthetic) == features._address(same, synthetic)


def test_another_backbone_has_other_features(synthetic, tensors):
    (spec,) = specs_of(synthetic, seeds=[0])
    changed = {name: value.clone() for name, value in tensors.items()}
    changed["bn1.running_mean"][3] += 1e-3
    one, other = (Learner.new(spec, 10, CPU, each) for each in (tensors, changed))
    assert features._address(one, synthetic) != features._address(other, synthetic)


def test_a_damaged_cache_is_made_again(synthetic, tensors):
    learner = Learner.new(specs_of(synthetic, seeds=[0])[0], 10, CPU, tensors)
    wanted = features_of(learner, synthetic).values
    (path,) = [synthetic.path / "cache" / f"features-{features._address(learner, synthetic)}.safetensors"]
    path.write_bytes(path.read_bytes()[:1000])
    again = features_of(learner, synthetic)
    assert again.seconds > 0
    assert torch.equal(again.values, wanted)
    assert [file.name for file in path.parent.iterdir() if "partial" in file.name] == []


@pytest.mark.whole
def test_an_interrupted_run_gives_the_same_when_it_is_started_again(synthetic, tensors, tmp_path, trained):
    specs, out = trained

    def stop(line):
        if line["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_heads(specs, synthetic, tmp_path, CPU, {specs[1]: stop}, Options(tensors=tensors))
    assert RunDirectory.of(specs[0], tmp_path).summary() is None
    train_heads(specs, synthetic, tmp_path, CPU, options=Options(tensors=tensors))
    for spec in specs:
        assert lines_of(spec, tmp_path) == lines_of(spec, out)


@pytest.mark.whole
def test_finished_seeds_are_left_alone(synthetic, tensors, tmp_path):
    specs = specs_of(synthetic, epochs=1)
    train_heads(specs[:1], synthetic, tmp_path, CPU, options=Options(tensors=tensors))
    before = (RunDirectory.of(specs[0], tmp_path).path / "metrics.jsonl").stat().st_mtime_ns
    seen = []
    watches = {spec: (lambda line, seed=spec.seed: seen.append(seed)) for spec in specs}
    assert len(train_heads(specs, synthetic, tmp_path, CPU, watches, Options(tensors=tensors))) == 3
    assert sorted(seen) == [1, 2]
    assert (RunDirectory.of(specs[0], tmp_path).path / "metrics.jsonl").stat().st_mtime_ns == before


def test_who_may_be_cached(synthetic):
    (spec,) = specs_of(synthetic, seeds=[0])
    assert can_be_cached(spec)
    assert not can_be_cached(dataclasses.replace(spec, recipe="basic"))
    assert not can_be_cached(dataclasses.replace(spec, tune="as-run"))
    assert not can_be_cached(dataclasses.replace(spec, tune="full"))
    assert RECIPES["basic"].random


@pytest.mark.whole
def test_a_session_trains_them_together(synthetic, tensors, tmp_path, trained):
    specs, out = trained
    said = []
    done = session.run(specs, synthetic, tmp_path, CPU, Options("auto", tensors, said.append))
    assert [summary["mode"] for summary in done.summaries] == ["cached features"] * 3
    assert lines_of(specs[0], tmp_path) == lines_of(specs[0], out)


def test_a_run_that_diverges_is_said_to_and_the_others_go_on(synthetic, tensors, tmp_path, trained, monkeypatch):
    specs, out = trained
    epoch = heads.Heads.epoch

    def poisoned(self, k, going):
        lines = epoch(self, k, going)
        return [
            line | {"train_loss": None} if k == 2 and n == 1 else line for n, line in zip(going, lines, strict=True)
        ]

    monkeypatch.setattr(heads.Heads, "epoch", poisoned)
    summaries = train_heads(specs, synthetic, tmp_path, CPU, options=Options(tensors=tensors))
    assert [summary["status"] for summary in summaries] == ["finished", "diverged", "finished"]
    assert (summaries[1]["epochs"], summaries[1]["kept_epoch"]) == (2, 1)
    assert lines_of(specs[2], tmp_path) == lines_of(specs[2], out)


def test_two_sessions_do_not_train_one_run(synthetic, tensors, tmp_path):
    specs = specs_of(synthetic, epochs=1)
    with RunDirectory.of(specs[1], tmp_path).locked(), pytest.raises(FastcifarError, match="another process"):
        train_heads(specs, synthetic, tmp_path, CPU, options=Options(tensors=tensors))


@pytest.mark.whole
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_heads_follow_optimizer_schedule_and_smoothing(optimizer, synthetic, tensors, tmp_path):
    settings = {"optimizer": optimizer, "schedule": "onecycle", "smoothing": 0.1}
    (spec,) = specs_of(synthetic, [1], **settings)
    assert can_be_cached(spec)
    assert not can_be_cached(dataclasses.replace(spec, optimizer="muon"))  # which is for the matrix of one run
    train_heads([spec], synthetic, tmp_path / "heads", CPU, options=Options(tensors=tensors))
    train(spec, synthetic, tmp_path / "alone", CPU, options=Options(tensors=tensors))
    for got, wanted in zip(lines_of(spec, tmp_path / "heads"), lines_of(spec, tmp_path / "alone"), strict=True):
        for key in ("train_loss", "val_loss"):
            assert got[key] == pytest.approx(wanted[key], rel=1e-4)
