"""``train_run``: strings or objects, a callback that may stop, and a run that goes on."""

import dataclasses

import pytest
import torch
from support.own import SMALL as SMALL_NET
from support.own import write as write
from support.runs import CPU, spec_of, untimed

from fastcifar.errors import UsageError
from fastcifar.runs.directory import RunDirectory, find_runs
from fastcifar.runs.plan import headline_runs
from fastcifar.training.api import train_run
from fastcifar.training.loop import train

SMALL = {"batch_size": 16, "recipe": "none", "amp": "off", "device": "cpu", "epochs": 2}


def test_keywords_are_the_run_of_the_command(synthetic, tmp_path):
    lines = []
    summary = train_run(experiment=2, data=str(synthetic.path), out=str(tmp_path), lr="1e-3", seed=0, **SMALL,
                        watch=lines.append)  # fmt: skip
    (spec,) = headline_runs(2, synthetic, seeds=[0], lr=1e-3, batch_size=16, recipe="none", epochs=2)
    assert summary["run_id"] == spec.run_id
    assert summary["status"] == "finished"
    assert [line["epoch"] for line in lines] == [1, 2]
    assert summary["directory"] == str(find_runs(tmp_path)[0].path)
    again = train_run(spec, synthetic, out=tmp_path, device=torch.device("cpu"))
    assert again == summary


def test_a_callback_may_stop_the_run_which_goes_on_later(synthetic, tmp_path):
    spec = spec_of(synthetic, epochs=4, optimizer="sgd", schedule="onecycle")

    class Pruned(Exception):
        pass

    def prune(line):
        if line["epoch"] == 2:
            raise Pruned

    with pytest.raises(Pruned):
        train_run(spec, synthetic, out=tmp_path / "pruned", device="cpu", watch=prune)
    lines = []
    train_run(spec, synthetic, out=tmp_path / "pruned", device="cpu", watch=lines.append)
    train(spec, synthetic, tmp_path / "whole", CPU)
    assert untimed(lines) == untimed(RunDirectory.of(spec, tmp_path / "whole").metrics())


def test_a_callback_that_changes_its_line_changes_nothing(synthetic, tmp_path):
    spec = spec_of(synthetic, epochs=2)
    changed = train_run(spec, synthetic, out=tmp_path / "changed", device="cpu", watch=lambda line: line.clear())
    plain = train_run(spec, synthetic, out=tmp_path / "plain", device="cpu")
    assert changed["val_accuracy"] == plain["val_accuracy"]
    for wrong in (None, "print", []):
        with pytest.raises(UsageError, match=r"watch .* cannot be called"):
            train_run(spec, synthetic, out=tmp_path, watch=wrong)
    with pytest.raises(UsageError, match="out 5 is not the path"):
        train_run(spec, synthetic, out=5)


def test_ones_own_network(synthetic, write, tmp_path):
    write("net")
    said = []
    for comment in ("", "\n# changed"):
        write("net", SMALL_NET + comment)
        summary = train_run(model="net:small", data=synthetic, out=tmp_path / "runs", say=said.append, **SMALL)
        assert summary["status"] == "finished"
    assert [text for text in said if "the code of net:small has changed" in text]


def test_pretrained_networks_and_cached_features(synthetic, tmp_path):
    settings = SMALL | {"experiment": 4, "model": "resnet18", "weights": "none", "epochs": 1}
    summary = train_run(data=synthetic, out=tmp_path, tune="head", **settings)
    assert summary["mode"] == "cached features"
    spec = dataclasses.replace(spec_of(synthetic), experiment=4, model="resnet18", dropout=0.0, weights="0" * 16)
    file = find_runs(tmp_path)[0].path / "model.safetensors"
    with pytest.raises(UsageError, match=f"the spec names the weights {'0' * 16}, but those found are .*weights="):
        train_run(spec, synthetic, out=tmp_path, weights=str(file))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": 1}, "train_run learning_rat: no such setting; there are experiment, protocol"),
        ({"optimiser": "sgd"}, r"train_run optimiser: no such setting; did you mean optimizer\?"),
        ({"lr": "fast"}, "train_run lr=fast: 'fast' is not of type float"),
        ({"batch_size": 1.5}, "train_run batch_size=1.5: 1.5 is not of type int"),
        ({"epochs": True}, "train_run epochs=True: True is not of type int"),
        ({"experiment": 7}, "experiment 7 does not exist"),
        ({"optimizer": "sdg"}, "optimizer 'sdg' does not exist; did you mean 'sgd'"),
        ({"device": "tpu"}, "device 'tpu' is not one of"),
        ({"log": "paper"}, "--log 'paper' is not one of none, tensorboard, wandb, mlflow"),
    ],
)
def test_misuse_is_said(synthetic, tmp_path, settings, message):
    with pytest.raises(UsageError, match=message):
        train_run(data=synthetic, out=tmp_path / "runs", **settings)
    with pytest.raises(UsageError, match=r"has a spec and lr; give one of them, or change the spec with dataclasses"):
        train_run(spec_of(synthetic), synthetic, out=tmp_path / "runs", lr=1.0)
    assert not (tmp_path / "runs").exists()
