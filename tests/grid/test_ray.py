"""A grid on a Ray cluster of this machine: what its nodes train is what the local executor trains, whoever dies."""

import time

import pytest
import torch
from support.grid import EPOCHS, RUNS, answer, epochs, prepared, results, start, wait_for

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.grid import plan as running
from fastcifar.grid.packing import Wanted, runs_of
from fastcifar.runs.directory import RunDirectory, find_runs
from fastcifar.training.loop import train

pytest.importorskip("ray", reason="Ray is not installed")
from ray.cluster_utils import Cluster as Nodes

from fastcifar.grid import ray as executor
from fastcifar.grid.remote import Place

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own
CPU = torch.device("cpu")


@pytest.fixture
def nodes():
    """A head that trains nothing; nodes of a core each are added to it."""
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield nodes
    nodes.shutdown()


def on(nodes):
    return "--executor", "ray", "--address", nodes.address


def test_a_node_that_dies_loses_nothing(digits, tmp_path, whole, nodes):
    out = prepared(tmp_path / "runs", whole)
    doomed, _ = (nodes.add_node(num_cpus=1) for _ in range(2))
    process = start(digits, out, *on(nodes))
    wait_for(lambda: epochs(out) >= 4)
    nodes.remove_node(doomed, allow_graceful=False)
    code, told, err = answer(process)
    assert code == 0, err
    assert "was lost" in err
    assert f"{RUNS} of {RUNS} runs finished" in told
    assert results(out) == whole[1]
    assert not list(out.glob(".shared-*"))


def test_where_nothing_is_shared_all_is_sent_there_and_back(digits, tmp_path, whole, nodes, monkeypatch):
    """The dataset, the epochs of a run that was begun here, and at last every file of every run."""
    nodes.add_node(num_cpus=1)
    out, nowhere = prepared(tmp_path / "runs", whole), tmp_path / "nowhere"
    monkeypatch.setattr(executor, "Place", lambda _, sha256, __, sign: Place(nowhere, sha256, nowhere, sign))
    overrides, only = {"epochs": [EPOCHS]}, {"batch_size": [128], "recipe": ["none"], "l2": [0.0], "lr": [1e-3]}
    runs = runs_of(Wanted([2], seeds=(0, 1), overrides=overrides, only=only, amp="off"), digits, CPU)
    begun = runs.specs[0]

    def cut(line):
        if line["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(begun, digits, out, CPU, cut)
    begun_at = RunDirectory.of(begun, out).metrics()[0]["seconds"]
    asked = running.Asked(digits, out, CPU, executor="ray", address=nodes.address, way="serial", pack=2)
    done = running.train_grid(asked, running.plan(asked, runs))
    assert len(done.finished) == RUNS
    assert not done.failed
    assert results(out) == whole[1]
    assert RunDirectory.of(begun, out).metrics()[0]["seconds"] == begun_at, "it went on, and did not begin anew"
    files = {directory.path.name: [file.name for file in directory.files()] for directory in find_runs(out)}
    assert set(map(tuple, files.values())) == {("metrics.jsonl", "model.safetensors", "run.json", "summary.json")}
    assert not nowhere.exists()


def test_a_node_that_joins_later_is_used(digits, tmp_path, nodes, monkeypatch):
    monkeypatch.setattr(executor, "LOOK", 0.2)
    nodes.add_node(num_cpus=1)
    with executor.Cluster(digits, tmp_path, nodes.address) as cluster:
        assert cluster.alive() == 1
        nodes.add_node(num_cpus=1)
        wait_for(lambda: cluster.alive() == 2)
        ready, until = set(), time.monotonic() + 60
        while len(ready) < 2 and time.monotonic() < until:
            told = cluster.event(1)
            ready |= {told[0]} if told else set()
        assert len(ready) == 2


def test_what_cannot_be_is_said(digits, tmp_path, nodes):
    with pytest.raises(UsageError, match="has no CPU"):
        executor.Cluster(digits, tmp_path, nodes.address)
    with pytest.raises(UsageError, match="has no GPU"):
        executor.Cluster(digits, tmp_path, nodes.address, cuda=True)
    with pytest.raises(FastcifarError, match="no Ray cluster answers at"):
        executor.Cluster(digits, tmp_path, "127.0.0.1:1")
    assert not list(tmp_path.glob(".shared-*"))
