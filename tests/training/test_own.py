"""Runs of one's own network: trained, resumed, predicted with, and begun anew when its code has changed."""

import json

import pytest
from support.command import TINY
from support.own import SMALL
from support.own import write as write
from support.runs import CPU, run

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.models.own import code_of
from fastcifar.runs.directory import RunDirectory, find_runs
from fastcifar.runs.plan import headline_runs
from fastcifar.runs.trained import TrainedRun
from fastcifar.training import loop


def spec_of(dataset, **settings):
    small = {"model": "net:small", "batch_size": 16, "epochs": 3, "recipe": "none"}
    (spec,) = headline_runs(2, dataset, seeds=[0], **small | settings)
    return spec


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_goes_on_as_if_it_had_not_been_stopped(synthetic, write, tmp_path, protocol):
    write("net")
    spec = spec_of(synthetic, protocol=protocol, recipe="basic", optimizer="sgd")
    whole = run(spec, synthetic, tmp_path / "whole")[1:]

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train(spec, synthetic, tmp_path / "stopped", CPU, stop)
    assert run(spec, synthetic, tmp_path / "stopped")[1:] == whole
    trained = TrainedRun.open(RunDirectory.of(spec, tmp_path / "whole").path)
    assert trained.outputs == 10
    trained.network(CPU)


def test_batch_norm_and_another_image_size(synthetic, write, tmp_path):
    write("net", SMALL + "\ndef pooled(n):\n    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=8), nn.BatchNorm2d(4), "
          "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n))\n")  # fmt: skip
    spec = spec_of(synthetic, model="net:pooled", recipe="imagenet256", epochs=1, batch_size=40)
    assert run(spec, synthetic, tmp_path)[0]["status"] == "finished"
    with pytest.raises(UsageError, match=r"net:small fails on images of shape \(2, 3, 224, 224\)"):
        spec_of(synthetic, recipe="imagenet256")


def test_what_it_cannot_be_is_said(synthetic, write):
    write("net")
    with pytest.raises(UsageError, match=r"dropout 0.5: net:small has dropout of its own; leave it at 0"):
        spec_of(synthetic, dropout=0.5)
    with pytest.raises(UsageError, match="net:small does not say which images its weights want; name their recipe"):
        headline_runs(4, synthetic, model="net:small")
    with pytest.raises(UsageError, match=r"net:small is not pretrained; leave tune .* or take experiment 4"):
        spec_of(synthetic, tune="head")


def test_changed_code_begins_a_new_run_and_says_so(synthetic, write, tmp_path, command):
    path = write("net")
    arguments = ("train", "--exp", 2, "--model", "net:small", "--data", synthetic.path, "--out", tmp_path / "runs",
                 "--seeds", 0, *TINY, "--set", "recipe=none", "--json")  # fmt: skip
    first = command(*arguments)
    assert first.code == 0, first.err
    assert "has changed" not in first.err
    (directory,) = find_runs(tmp_path / "runs")
    assert "net-small-none-b32" in directory.path.name
    path.write_text(SMALL + "\n# nothing new\n", encoding="utf-8")
    second = command(*arguments)
    assert second.code == 0, second.err
    assert f"the code of net:small has changed since {directory.path.name}" in " ".join(second.err.split())
    ids = [json.loads(each.out)[0]["run_id"] for each in (first, second)]
    assert len(set(ids)) == len(find_runs(tmp_path / "runs")) == 2
    with pytest.raises(FastcifarError, match="the code of net:small has changed: the run was made with"):
        TrainedRun.open(directory.path).network(CPU)


def test_code_that_changes_after_the_plan_is_refused(synthetic, write, tmp_path):
    path = write("net")
    spec = spec_of(synthetic)
    path.write_text(SMALL + "\n# changed\n", encoding="utf-8")
    with pytest.raises(FastcifarError, match="the code of net:small has changed"):
        loop.train(spec, synthetic, tmp_path / "runs", CPU)
    assert code_of("net:small") != spec.code
