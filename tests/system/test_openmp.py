"""The number of OpenMP's threads: the free cores, chosen by our commands, unless the user has chosen."""

import json
import os
import subprocess
import sys

import pytest
from support import ROOT

from fastcifar.system import load, machine, openmp
from fastcifar.system.load import Load


@pytest.fixture
def chosen(monkeypatch):
    """Return a function that chooses on a machine with cores and a load, and returns the variables and the message."""
    for name in load.variables():
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "torch", raising=False)

    def choose(usable, busy, **variables):
        monkeypatch.setattr(machine, "usable_cores", lambda: usable)
        monkeypatch.setattr(machine, "allowed_cores", lambda: list(range(usable)))
        monkeypatch.setattr(load, "measure", lambda seconds: Load(busy, None))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        said = []
        openmp.choose(said.append)
        found = load.variables()
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        return found, said

    return choose


@pytest.mark.parametrize(
    ("allowed", "usable", "busy", "free"),
    [
        (2, 2, 0.0, 2), (2, 2, 0.4, 2), (2, 2, 0.5, 1), (2, 2, 1.0, 1), (2, 2, 2.0, 1), (16, 16, 3.2, 13),
        (16, 16, 16.0, 1), (1, 1, 1.0, 1), (4, 4, None, 4),
        (64, 2, 8.0, 2), (64, 2, 63.0, 1), (64, 32, 40.0, 24),  # a quota, and others on cores beyond it
    ],
)  # fmt: skip
def test_busy_cores_are_left_to_others(allowed, usable, busy, free):
    assert openmp.free_cores(allowed, usable, busy) == free


def test_on_idle_cores_nothing_is_set_nor_said(chosen):
    assert chosen(2, 0.1) == ({}, [])


def test_beside_busy_programs_there_are_fewer_threads_and_it_is_said(chosen):
    assert chosen(4, 1.1) == (
        {"OMP_NUM_THREADS": "3"},
        ["other programs use 1.1 of 4 cores, so torch takes 3 threads; OMP_NUM_THREADS sets another number"],
    )


def test_the_user_s_number_stays(chosen):
    assert chosen(2, 2.0, OMP_NUM_THREADS="7") == ({"OMP_NUM_THREADS": "7"}, [])


def test_how_threads_wait_is_another_choice(chosen):
    found, said = chosen(2, 2.0, OMP_WAIT_POLICY="PASSIVE")
    assert found == {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    assert said[0].startswith("other programs use 2.0 of 2 cores, so torch takes 1 thread;")


def test_after_torch_is_loaded_nothing_is_set(chosen, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", object())
    assert chosen(2, 2.0) == ({}, [])


def test_a_library_sets_nothing():
    code = "import os; before = dict(os.environ); import fastcifar; fastcifar.Loader; assert dict(os.environ) == before"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.whole
def test_a_command_s_run_says_how_many_threads_it_had(synthetic, tmp_path):
    """Neighbours that keep every core busy; so the command takes one thread, and run.json has it."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(machine.usable_cores())]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(load.VARIABLES)}
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "fastcifar", "train", "--exp", "1", "--data", synthetic.path, "--out", tmp_path,
             "--seeds", "0", "--epochs", "1", "--device", "cpu"],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert "so torch takes 1 thread;" in ran.stderr
    (run,) = tmp_path.glob("exp1/*/run.json")
    threads = json.loads(run.read_text())["environment"]["threads"]
    assert (threads["OMP_NUM_THREADS"], threads["torch"]) == ("1", 1)
