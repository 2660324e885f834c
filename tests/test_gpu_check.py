"""The check of a GPU machine: every step runs, whatever became of those before it; the summary says how each ended."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import torch
from scripts import script

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def gpu_check() -> ModuleType:
    return script("tools/gpu_check.py")


def test_success_failure_and_timeout(gpu_check, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu_check, "GRACE", 1)
    children = tmp_path / "child"
    hangs = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(children)!r}, 'w').write(str(child.pid)); print('hanging', flush=True); time.sleep(60)"
    )
    planned = [
        gpu_check.Step("fails", ("-c", "import sys; print('broken'); sys.exit(3)"), 30, "tests.log"),
        gpu_check.Step("hangs", ("-c", hangs), 2),
        gpu_check.Step("works", ("-c", "import fastcifar; print('from', fastcifar.__file__)"), 30),
    ]
    started = time.monotonic()
    assert not gpu_check.check(planned, tmp_path / "out", lambda: {"gpus": ["one"]})
    assert time.monotonic() - started < 30
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bench.log", "summary.json", "tests.log"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [(step["name"], step["outcome"], step["status"]) for step in summary["steps"]] == [
        ("fails", "failed", 3),
        ("hangs", "timed out", -9),
        ("works", "passed", 0),
    ]
    assert (summary["passed"], summary["environment"]) == (False, {"gpus": ["one"]})
    assert "broken" in (tmp_path / "out" / "tests.log").read_text()
    log = (tmp_path / "out" / "bench.log").read_text()
    assert log.index("hanging") < log.index("hangs: timed out") < log.index(f"from {ROOT}")
    assert re.search(r"^hangs +timed out ", capsys.readouterr().out, re.MULTILINE)
    assert not alive(int(children.read_text()))


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_all_steps_pass_and_nothing_else_in_the_folder_is_touched(gpu_check, tmp_path):
    (tmp_path / "mine.txt").touch()
    (tmp_path / "bench.log").write_text("of an earlier check")
    assert gpu_check.check([gpu_check.Step("works", ("-c", "print('well')"), 30)], tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["passed"]
    assert (tmp_path / "mine.txt").exists()
    assert "earlier" not in (tmp_path / "bench.log").read_text()


def test_of_a_long_output_the_ends_are_kept(gpu_check, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "LOG_BYTES", 100)
    code = "print('first' + 'x' * 9000 + 'last')"
    gpu_check.check([gpu_check.Step("long", ("-c", code), 30)], tmp_path)
    log = (tmp_path / "bench.log").read_text()
    assert len(log) < 600
    assert "\nfirst" in log
    assert "last\n" in log
    assert "8910 bytes are left out" in log


def test_the_steps_fit_into_nine_minutes(gpu_check, tmp_path):
    planned = gpu_check.steps(tmp_path)
    assert sum(step.limit for step in planned) < 540
    written = {Path(word).name for step in planned for word in step.arguments if word.startswith(str(tmp_path))}
    written |= {step.log for step in planned} | {"summary.json"}
    assert written == set(gpu_check.FILES)
    assert len(written) <= 8
    for step in planned:
        assert step.arguments[0] == "-m" or (ROOT / step.arguments[0]).exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_nothing_is_run(tmp_path):
    command = ["make", "gpu-check", f"PYTHON={sys.executable}", f"OUT={tmp_path / 'out'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the GPU check cannot run: torch sees no CUDA device" in done.stderr
    assert not (tmp_path / "out").exists()


LACKING = """
import sys
from importlib.machinery import PathFinder

class Lacking(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        found = super().find_spec(name, path, target)
        lacks = name in ("hypothesis", "sklearn", "py7zr", "ffcv") and found and "site-packages" in str(found.origin)
        return PathFinder.find_spec(name, [at for at in sys.path if "site-packages" not in at]) if lacks else found

sys.meta_path[sys.meta_path.index(PathFinder)] = Lacking
"""


def test_without_hypothesis_its_tests_are_skipped_and_all_can_be_collected(tmp_path):
    """As on a machine lent for its GPU, which has torch and pytest and little else."""
    (tmp_path / "sitecustomize.py").write_text(LACKING)
    report = tmp_path / "junit.xml"
    chosen = "spec_s_tables or any_spec or on_cuda_a_run_learns"
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "-k", chosen]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, ROOT))),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # Hypothesis's plugin would import it
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    skipped = {
        case.get("name").partition("[")[0]: case.find("skipped") for case in ElementTree.parse(report).iter("testcase")
    }
    assert skipped["test_a_spec_s_tables_are_made_once_per_device"] is None
    assert skipped["test_any_spec_under_any_seed"].get("message") == "Hypothesis is not installed"
    assert "test_on_cuda_a_run_learns_and_goes_on" in skipped
