"""Grids that are started as processes, like a user starts them."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from fastcifar.runs.directory import TIMING, find_runs
from fastcifar.system import machine
from support.runs import weights_hash

ONLY = ("--only", "batch_size=128", "--only", "recipe=none", "--only", "l2=0", "--only", "lr=1e-3")


RUNS, EPOCHS = 4, 6  # dropout x two seeds


def command(data, out, *more):
    options = ("--exp", "2", *ONLY, "--seeds", "0,1", "--epochs", EPOCHS, "--amp", "off", "--pack", "2")
    arguments = ("grid", *options, "--way", "serial", "--data", data.path, "--out", out, *more)
    return [sys.executable, "-m", "fastcifar", *map(str, arguments)]


def start(*arguments):
    return subprocess.Popen(
        command(*arguments), cwd=machine.CHECKOUT, env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def answer(process):
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def grid(*arguments):
    return answer(start(*arguments))


def results(out):
    """Return by run: metrics and summary without timings, and a hash of the kept weights."""
    found = {}
    for directory in find_runs(out):
        lines = [{k: v for k, v in line.items() if k not in TIMING} for line in directory.metrics()]
        summary = {k: v for k, v in (directory.summary() or {}).items() if k not in TIMING}
        found[directory.path.name] = lines, summary, weights_hash(directory)
    return found


def epochs(out):
    return sum(len(directory.metrics()) for directory in find_runs(out))


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """Return (calibration file, results) of a grid that ran without interruption."""
    out = tmp_path_factory.mktemp("whole")
    code, told, err = grid(digits, out)
    assert code == 0, err
    assert f"{RUNS} of {RUNS} runs finished" in told
    assert "Plan" in told
    assert not list((out / ".leases").glob("*.json"))
    return out / "calibration.json", results(out)


def prepared(out, whole):
    """Return an output folder that has a calibration file, which only saves the test time."""
    out.mkdir()
    shutil.copy(whole[0], out)
    return out
