"""A grid on a Ray cluster of this machine: what its nodes train is what the local executor trains, whoever dies."""

import os
import re
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from support.grid import EPOCHS, RUNS, answer, epochs, grid, prepared, results, start, wait_for

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.grid import plan as running
from fastcifar.grid.wanted import Wanted, runs_of
from fastcifar.runs.directory import RunDirectory, find_runs
from fastcifar.system import machine
from fastcifar.training.loop import train

pytest.importorskip("ray", reason="Ray is not installed")
from ray.cluster_utils import Cluster as Nodes

from fastcifar.grid import ray as executor
from fastcifar.grid.remote import Place

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own
CPU = torch.device("cpu")
OURS = re.compile(
    r"digits .*: making the plan|Ray's own messages go to |the worker on \S+ was lost \(|\d of \d runs finished|next: "
    r"|\S+ cannot be used: ActorDiedError"  # a busy machine may list the node once more before it knows that it died
)  # the lines of a grid on stderr


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
    said = err.splitlines()
    assert said.count(f"Ray's own messages go to {out / executor.LOG}") == 1
    assert any("was lost" in line for line in said)
    assert all(OURS.match(line) for line in said), err
    assert "raylet" in (out / executor.LOG).read_text()
    assert "raylet" not in told
    assert f"{RUNS} of {RUNS} runs finished" in told
    assert results(out) == whole[1]
    assert not list(out.glob(".shared.*"))


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
    before = sys.stderr, os.fstat(2).st_ino
    with pytest.raises(UsageError, match="has no CPU"):
        executor.Cluster(digits, tmp_path, nodes.address)
    with pytest.raises(UsageError, match="has no GPU"):
        executor.Cluster(digits, tmp_path, nodes.address, cuda=True)
    with pytest.raises(FastcifarError, match="no Ray cluster answers at"):
        executor.Cluster(digits, tmp_path, "127.0.0.1:1")
    assert not list(tmp_path.glob(".shared.*"))
    assert (sys.stderr, os.fstat(2).st_ino) == before


def test_a_node_that_cannot_be_used_says_why(digits, tmp_path, nodes, monkeypatch):
    def reason_for(**replaced):
        for name, value in replaced.items():
            monkeypatch.setattr(executor, name, value)
        with executor.Cluster(digits, tmp_path, nodes.address) as cluster:
            wait_for(lambda: not cluster.alive())
            return cluster.event(5)[1].reason

    nodes.add_node(num_cpus=1)
    nowhere = tmp_path / "nowhere"
    why = reason_for(Place=lambda *place: Place(*place, version="0.0.1"))
    assert why.endswith("here; install the same version there")
    assert "cannot be used: fastcifar " in why
    why = reason_for(Place=lambda _, *place: Place(nowhere, *place), shipped=lambda _: {"manifest.json": b"{}"})
    assert "manifest.json is damaged (Object missing required field `format`); make the dataset anew" in why
    why = reason_for(shipped=lambda _: {"of a folder/that is missing": b""})
    assert "cannot be used: FileNotFoundError: [Errno 2]" in why
    assert why.endswith(f"installed there, and read {tmp_path / executor.LOG}")
    assert "in receive" in (tmp_path / executor.LOG).read_text(), "the traceback"


CONNECT = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    from fastcifar.grid.connection import connected, ray

    before = dict(os.environ)
    with connected(sys.argv[1], Path("ray.log")):
        nodes = ray.nodes()
    assert dict(os.environ) == before
    print(len(nodes))
""")


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """Return (address, file of its token) of a cluster that `ray start --head` makes where there is a token."""
    home = tmp_path_factory.mktemp("home")
    token = home / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("0123456789abcdef" * 4)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus=1", f"--port={port}",
         "--include-dashboard=false", "--disable-usage-stats"],
        env=os.environ | {"HOME": str(home)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if "Ray runtime started" in line:
            break
    yield f"127.0.0.1:{port}", token
    process.terminate()
    process.communicate(timeout=60)


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """A user without a token. Returns its home."""
    for name in ("MODE", "TOKEN", "TOKEN_PATH"):
        monkeypatch.delenv(f"RAY_AUTH_{name}", raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


def test_a_cluster_that_wants_a_token_is_trained_on_with_it(digits, tmp_path, whole, head, nobody, monkeypatch):
    address, token = head
    out = prepared(tmp_path / "runs", whole)
    code, told, err = grid(digits, out, "--executor", "ray", "--address", address)
    assert code == 1
    assert told
    said = err.splitlines()
    assert said[-1] == (
        f"error: the Ray cluster at {address} wants a token, and this command gave none; copy the cluster's token "
        "(~/.ray/auth_token on the machine of ray start) to ~/.ray/auth_token here, and run the command with "
        "RAY_AUTH_MODE=token"
    )
    assert all(OURS.match(line) for line in said[:-1]), err
    assert len(said) <= 4, err
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    code, told, err = grid(digits, out, "--executor", "ray", "--address", address)
    assert code == 0, err
    assert f"{RUNS} of {RUNS} runs finished" in told
    assert results(out) == whole[1]


@pytest.mark.parametrize(
    ("environment", "answer"),
    [
        ({"RAY_AUTH_TOKEN_PATH": "{token}"}, "1"),  # a cluster of this machine gets it unasked
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN_PATH": "{token}"}, "wants a token, and this command gave none"),
        ({"RAY_AUTH_TOKEN": "another"}, "does not accept the token in RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "another"}, "does not accept the token in RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_MODE": "token"}, "there is no token in ~/.ray/auth_token"),
    ],
)
def test_the_token_is_given_on_this_machine_unless_the_user_chose(head, nobody, environment, answer):
    address, token = head
    given = {name: value.format(token=token) for name, value in environment.items()}
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, address], cwd=nobody, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(machine.CHECKOUT)} | given,
    )  # fmt: skip
    assert answer in (done.stdout.splitlines() or done.stderr.splitlines())[-1], done.stderr
