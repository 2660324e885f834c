"""A contestant's process: whoever hangs or dies is named with the reason, and nothing of it stays."""

import sys

import pytest
from support.throughput import contestant, gone

from fastcifar.throughput import process


@pytest.mark.whole
def test_a_process_that_hangs_with_a_worker_leaves_neither(monkeypatch, started, synthetic):
    hang = "import subprocess, sys, time; input(); subprocess.Popen(['sleep', '600']); print('{}', flush=True); "
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", hang + "time.sleep(600)"))
    asked = process.Process(contestant(synthetic, "resident"), timeout=5.0)
    with pytest.raises(process.ContestantFailed, match="did not take its turn in 5 s"):
        asked.ask({"seconds": 1, "pick": 0})
    assert gone(started[0])


def test_a_process_that_dies_at_once_says_how(monkeypatch, synthetic):
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", "import sys; sys.exit('no room left')"))
    with pytest.raises(process.ContestantFailed, match="ended with exit status 1; its last output was: no room left"):
        process.Process(contestant(synthetic, "resident"), timeout=20.0)


def test_the_variables_of_contestants_differ_by_nothing(monkeypatch, synthetic):
    """The settings of OpenMP are this process's, whoever the contestant is."""
    settings = {name: f"of {name}" for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_PROC_BIND")}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    tell = "import json, os; input(); print(json.dumps(dict(os.environ)), flush=True)"
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", tell))
    given = []
    for pipeline in ("resident", "dali", "replay"):
        started = process.Process(contestant(synthetic, pipeline, threads=2), timeout=20.0)
        started.close()
        given.append(started.opening)
    assert given[1:] == [given[0]] * 2
    assert given[0].items() >= (settings | {"OMP_NUM_THREADS": "2"}).items()
