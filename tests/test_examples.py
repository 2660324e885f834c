"""The examples run as their docstrings say, on little data, and stay short."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support import ROOT

from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LONGER = {"fast_resnet.py"}  # a network with its recipe of training


def run(*command: object, into: Path) -> str:
    """The last line that a Python program prints, which must succeed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    ran = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False, env=environment, cwd=into
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.strip().splitlines()[-1]


def percent(line: str) -> float:
    """The number before the first % of a line."""
    return float(line.partition(" %")[0].split()[-1])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_short_and_named_in_the_readme(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 60 or path.name in LONGER
    assert lines[0].startswith('"""')
    assert f"(examples/{path.name})" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.whole
@pytest.mark.parametrize(
    ("name", "library"),
    [("own_loop", "torch"), ("with_lightning", "lightning"), ("with_accelerate", "accelerate")],
)
def test_loops_of_ones_own_learn(name, library, digits, tmp_path):
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    assert percent(run(ROOT / "examples" / f"{name}.py", digits.path, "--epochs", 6, into=tmp_path)) > 55


@pytest.mark.whole
def test_ones_own_loop_goes_on_after_an_interruption(digits, tmp_path):
    program = ROOT / "examples" / "own_loop.py"
    source = program.read_text(encoding="utf-8").replace("EVERY = 50", "EVERY = 2")
    stopping = source.replace("torch.save(", "import os; torch.save(").replace(
        "options.checkpoint)\n",
        "options.checkpoint)\n                os._exit(0) if training.epoch == 1 else None\n",
        1,
    )
    assert stopping.count("os._exit") == 1
    (tmp_path / "stopping.py").write_text(stopping)
    (tmp_path / "loop.py").write_text(source)
    arguments = digits.path, "--epochs", 3, "--checkpoint", tmp_path / "loop.pt"
    assert run("stopping.py", *arguments, into=tmp_path).startswith("epoch 1")
    assert run("loop.py", *arguments, into=tmp_path).startswith("epoch 3")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("optuna") is None, reason="optuna is not installed")
def test_a_search_uses_finished_runs_again(digits, tmp_path):
    program = ROOT / "examples" / "with_optuna.py"
    arguments = digits.path, "--trials", 3, "--epochs", 1, "--out", "found"
    first = run(program, *arguments, into=tmp_path)
    assert first.startswith("best: ")
    runs = {path: path.stat().st_mtime_ns for path in tmp_path.glob("found/exp2/*/summary.json")}
    assert runs
    assert run(program, *arguments, into=tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("found/exp2/*/summary.json")} == runs


@pytest.mark.slow
def test_ones_own_network_trains(digits, tmp_path):
    network = f"{ROOT / 'examples' / 'own_network.py'}:tiny"
    command = "-m", "fastcifar", "train", "--exp", 2, "--data", digits.path, "--seeds", 0, "--epochs", 1
    run(*command, "--model", network, "--set", "recipe=standard", "--out", tmp_path / "runs", into=tmp_path)
    assert len(list(tmp_path.glob("runs/exp2/*tiny*/summary.json"))) == 1


@pytest.mark.whole
def test_ones_own_pipeline_keeps_the_contract(tmp_path):
    assert "pipeline Plain" in subprocess.run(
        [sys.executable, ROOT / "examples" / "own_pipeline.py"], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ).stdout  # fmt: skip


@pytest.mark.slow
def test_the_fast_network_learns(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(1500) % 10
    pattern = rng.integers(0, 200, (10, 4, 4, 3)).repeat(8, 1).repeat(8, 2)  # coarse colours, a pattern for each class
    images = (pattern[labels] + rng.integers(0, 56, (1500, 32, 32, 3))).astype(np.uint8)
    convert(Dataset.from_arrays(images, labels, 10), tmp_path / "data")
    program = ROOT / "examples" / "fast_resnet.py"
    line = run(program, "data", "--epochs", 4, "--width", 0.25, "--batch-size", 100, into=tmp_path)
    assert percent(line) > 60
