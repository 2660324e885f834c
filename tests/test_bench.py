"""The benchmark scripts run, check what they time, and the README says what the committed rows say."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fastcifar.kernels import reference

from fastcifar.augment import RECIPES, draw

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import readme, rows  # noqa: E402
from bench.plain import apply_numba_pixels  # noqa: E402


def test_the_readmes_tables_are_those_of_the_committed_rows():
    text = readme.README.read_text()
    assert readme.rendered(text) == text, "run: python bench/readme.py"
    assert [name for _, name, _ in readme.BLOCK.findall(text)] == list(readme.RENDERERS)


@pytest.mark.parametrize("path", sorted(rows.RESULTS.glob("*.jsonl")), ids=lambda path: path.name)
def test_committed_rows_carry_where_they_are_from(path):
    for row in rows.read(path):
        assert {"cpu", "cores", "python", "versions", "commit", "dirty"} <= row["environment"].keys()


def test_the_plain_loop_is_a_fair_contestant():
    """It computes the same pixels, but for a few at ties of its float coordinates."""
    import torch

    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), np.uint8)
    draws = draw(RECIPES["erasing"], 0, 0, np.arange(60))
    out = np.empty((60, 32, 32, 3), np.float32)
    apply_numba_pixels(images, draws, out)
    expected = reference.apply(torch.from_numpy(images), draws, RECIPES["erasing"]).permute(0, 2, 3, 1).numpy()
    assert (np.abs(out - expected) > 1e-5).mean() < 1e-4


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / script), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_kernels_verifies_every_contestant(tmp_path):
    out = tmp_path / "rows.jsonl"
    run("kernels.py", "--recipes", "erasing", "--batch", "64", "--repeats", "1", "--out", str(out))
    found = rows.read(out)
    assert {row["kernel"] for row in found} == {"cpu", "torchvision, 1 thread", "plain numba"}
    assert all(row["verified"] and row["images_per_s"] > 0 for row in found)
    assert all(row["max_abs_dev"] == 0 for row in found if row["kernel"] == "cpu")


def test_parity_finds_no_more_than_rounding(tmp_path):
    out = tmp_path / "rows.jsonl"
    run("parity.py", "--recipes", "erasing", "--draws", "150", "--out", str(out))
    (row,) = rows.read(out)
    assert row["draws"] == 150
    assert row["reference_torchvision"] < 4e-6
    assert row["cpu_reference_float32"] < 1e-6


def test_accuracy_refuses_a_folder_without_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "accuracy.py"), "--runs", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no finished run" in done.stderr
    assert json.dumps(str(tmp_path))[1:-1] in done.stderr
