"""What a contestant takes of the machine."""

import subprocess
import sys

import numpy as np
import pytest
from support import ROOT

from fastcifar.errors import FastcifarError
from fastcifar.throughput import resources


def test_working_on_while_others_are_timed_is_an_error(monkeypatch):
    clock = iter(np.arange(0.0, 1000.0))
    monkeypatch.setattr(resources, "cpu_seconds", lambda: next(clock))
    with pytest.raises(FastcifarError, match="goes on working"):
        resources.come_to_rest(limit=0.2)


@pytest.mark.whole
def test_the_cpu_time_of_workers_counts():
    burn = "import time\nwhile time.process_time() < 0.4: pass\ntime.sleep(30)"
    script = (
        "import subprocess, sys, time; from fastcifar.throughput import resources; before = resources.cpu_seconds(); "
        f"worker = subprocess.Popen([sys.executable, '-c', {burn!r}]); time.sleep(2); "
        "print(resources.cpu_seconds() - before, resources.worker_bytes()); worker.kill(); worker.wait()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, start_new_session=True, cwd=ROOT
    )
    seconds, held_bytes = map(float, done.stdout.split())
    assert 0.2 < seconds < 1.5
    assert held_bytes > 1 << 20
