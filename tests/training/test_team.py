"""Several processes train as one does: the same samples a step, the same metrics to rounding."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT
from support.runs import CPU, spec_of

from fastcifar.errors import UsageError
from fastcifar.pipeline import Request, open_pipeline
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.outcome import epoch_line
from fastcifar.system.devices import local_device
from fastcifar.system.launch import leads
from fastcifar.training.learner import Learner
from fastcifar.training.record import record
from fastcifar.training.steps import Trained
from fastcifar.training.team import Team


def shards(dataset, size, **more):
    return [Request(dataset, shard=(rank, size), **more) for rank in range(size)]


@given(size=st.integers(1, 7), share=st.integers(1, 9), epoch=st.integers(0, 5), drop_last=st.booleans())
def test_shares_are_the_batches_of_one(size, share, epoch, drop_last, synthetic):
    more = {"batch_size": size * share, "seed": 3, "drop_last": drop_last}
    one, parts = Request(synthetic, **more), shards(synthetic, size, **more)
    whole = one.order(epoch)
    assert {part.batches() for part in parts} == {one.batches()}
    for n in range(one.batches()):
        batch = whole[n * one.batch_size : (n + 1) * one.batch_size]
        theirs = [part.order(epoch)[n * share : (n + 1) * share] for part in parts]
        assert all(len(ids) > 0 for ids in theirs)
        if len(batch) == one.batch_size:
            assert np.concatenate(theirs).tolist() == batch.tolist()
        else:
            counted = [ids for ids, part in zip(theirs, parts, strict=True) if part.last_weight]
            assert np.concatenate(counted).tolist() == batch.tolist()
            assert sum(part.last_weight for part in parts) == pytest.approx(size)
            for ids, part in zip(theirs, parts, strict=True):
                if part.last_weight:
                    assert part.last_weight == pytest.approx(len(ids) * size / len(batch))


def test_the_pipeline_gives_its_share(synthetic):
    with open_pipeline("resident", synthetic, batch_size=12, seed=1) as whole:
        batches = list(whole.epoch(2))
    parts = []
    for rank in range(3):
        with open_pipeline("resident", synthetic, batch_size=12, seed=1, shard=(rank, 3)) as pipeline:
            parts.append(list(pipeline.epoch(2)))
    for n, batch in enumerate(batches[:-1]):
        assert torch.equal(torch.cat([part[n].ids for part in parts]), batch.ids)
        assert torch.equal(torch.cat([part[n].images for part in parts]), batch.images)


def test_what_cannot_be_shared_is_refused(synthetic, monkeypatch):
    with pytest.raises(UsageError, match="batch size 16 cannot be shared out to 3 processes equally"):
        Request(synthetic, batch_size=16, shard=(0, 3))
    monkeypatch.setattr("fastcifar.pipelines.torchvision.PIPELINE.shares", False)
    with pytest.raises(UsageError, match="'torchvision' does not share batches out to processes; resident does"):
        open_pipeline("torchvision", synthetic, batch_size=16, shard=(0, 2))


def test_losses_of_a_team_are_those_of_the_whole_batches(monkeypatch):
    mine = Trained(torch.tensor([1.0, 4.0]).double(), [2, 3], 1.0, 0.0)
    theirs = (torch.tensor([3.0, 9.0]).double(), torch.tensor([2.0, 0.0]).double())
    monkeypatch.setattr(Team, "gathered", lambda self, said: [said, theirs])
    both = Team(0, 2).together(mine)
    assert both.losses.tolist() == [2.0, 4.0]
    assert both.sizes == [4, 3]
    assert Team().together(mine) is mine


def test_alone_nobody_is_waited_for(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    team = Team.joined(torch.device("cpu"))
    assert team == Team(0, 1)
    assert team.first("said") == "said"
    assert leads()
    assert local_device("auto") == "auto"


def test_a_process_has_the_device_of_its_place(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert local_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert local_device("auto") == "cuda:1"
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match="process 2 here, but there are 2 CUDA devices"):
        local_device("cuda")


def test_a_process_that_does_not_write_leaves_the_directory_as_it_is(synthetic, tmp_path):
    spec = spec_of(synthetic)
    learner, run = Learner.new(spec, 10, CPU), RunDirectory.of(spec, tmp_path)
    run.path.mkdir(parents=True)
    run.start(spec, {})
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    reading = Team(1, 2).directory(spec, tmp_path)
    learner.epoch, lines = 1, []
    record(learner, reading, lines, epoch_line(1, 1.0, (1.0, 0.5), 1e-3, 1.0, 9.0, 0.0))
    assert len(lines) == 1
    reading.start(spec, {"other": 1})
    reading.save_tensors("model", learner.model.state_dict(), {})
    reading.keep_metrics(0)
    reading.finish({"status": "finished"})
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


def trained(dataset, out, processes, epochs, *more):
    """The run's directory, trained by so many processes."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
        *("-m", "fastcifar", "train", "--exp", "2", "--data", str(dataset.path), "--out", str(out), "--seeds", "0"),
        *("--amp", "off", "--device", "cpu", "--epochs", str(epochs), "--set", "batch_size=22", *more),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("picture:") == 1  # one of them speaks
    (run,) = (out / "exp2").glob("cnn*/")
    return run


def metrics(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["epoch"], line["train_loss"], line["val_loss"], line["val_accuracy"]) for line in lines]


@pytest.mark.slow
def test_two_processes_give_the_metrics_of_one(synthetic, tmp_path):
    """80 samples in batches of 22: four steps, the last of 14, dropout and augmentation in all."""
    alone, both = trained(synthetic, tmp_path / "1", 1, 3), trained(synthetic, tmp_path / "2", 2, 3)
    assert sorted(path.name for path in both.iterdir()) == sorted(path.name for path in alone.iterdir())
    for got, wanted in zip(metrics(both), metrics(alone), strict=True):
        assert got == pytest.approx(wanted, rel=1e-4)
