"""The contest of kernels on a GPU, without one: its contestants' pixels, what is said of wrong ones, its table."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from fastcifar.kernels import reference
from support import ROOT
from support.images import images

from bench import kernels
from bench.lib import device
from bench.rivals import compiled, rival
from fastcifar.augment import draw
from fastcifar.recipes import RECIPES

CPU = torch.device("cpu")
OTHER_WORK = "draws once a batch: all of its images are changed alike"


def raced(recipe: str, dtype: torch.dtype, batch: int = 4, **how) -> dict[str, dict]:
    """The contestants for a GPU, on the CPU: ours in Triton's interpreter, nothing recorded. Rows by kernel."""
    pytest.importorskip("triton", reason="Triton is not installed")
    contests = kernels.OnGpu(CPU, device.DeviceBandwidth(copy=4e12, fill=3e12))
    return {row["kernel"]: row for row in contests.rows(recipe, dtype, batch, 1, **{"compiles": False} | how)}


@pytest.mark.whole
@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels are compiled, for CUDA tensors")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("recipe", "batch"), [("none", 4), ("erasing", 4), ("imagenet256", 1)])
def test_the_gpu_s_contestants_do_what_their_rows_say(recipe, batch, dtype):
    found = raced(recipe, dtype, batch, sets=2)
    assert found["gpu"]["verified"]
    assert found["gpu"]["max_abs_dev"] == 0
    assert found["torch compiled"]["verified"], found["torch compiled"]["reason"]
    stock = found["torchvision batch"]
    assert (stock["verified"], stock["reason"]) == ((False, OTHER_WORK) if recipe == "erasing" else (True, None))
    assert all(row["images_per_s"] for name, row in found.items() if name != "kornia")
    pixels = RECIPES[recipe].out_size ** 2
    for row in found.values():
        assert row["bytes_per_image"] == 3072 + 3 * pixels * dtype.itemsize
        assert row["ceiling_images_per_s"] == 4e12 / row["bytes_per_image"]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels are compiled, for CUDA tensors")
def test_the_definition_can_be_compiled():
    found = raced("erasing", torch.float32, compiles=True, sets=2)
    assert found["torch compiled"]["verified"], found["torch compiled"]["reason"]


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recorded_contestants_make_the_right_pixels(recipe, dtype):
    there = torch.device("cuda")
    contests = kernels.OnGpu(there, device.bandwidth(there, 1 << 24, 1, 1))
    found = {row["kernel"]: row for row in contests.rows(recipe, dtype, 64, 1, compiles=False)}
    assert found["gpu"]["verified"], found["gpu"]["reason"]
    assert found["torch compiled"]["verified"], found["torch compiled"]["reason"]
    assert found["torchvision batch"]["images_per_s"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_draws_as_tensors_give_the_reference_s_pixels(recipe):
    spec, source = RECIPES[recipe], images(30)
    draws = draw(spec, 5, 2, np.arange(30))
    got = compiled.apply(source, compiled.given(draws, spec, CPU), spec, torch.float32)
    assert torch.equal(got, reference.apply(source, draws, spec))
    assert got.is_contiguous(memory_format=torch.channels_last)


def contestant(call, expected=None, **more) -> rival.Rival:
    return rival.Rival(8, call, expected, **more)


def test_a_contestant_that_is_wrong_or_raises_gets_no_verified_row():
    right = torch.linspace(0, 1, 8 * 3 * 16).view(8, 3, 4, 4)

    def breaks():
        raise RuntimeError("no such device")

    entered = {
        "right": contestant(lambda: right, right[::3], every=3),
        "wrong": contestant(lambda: right.roll(1, 0), right[::3], every=3),
        "not a number": contestant(lambda: right * torch.nan, right),
        "breaks": contestant(breaks, right),
        "other": contestant(lambda: right, differs="it is another work"),
    }
    found = {row["kernel"]: row for row in rival.race(entered, 2, CPU)}
    assert {name: row["verified"] for name, row in found.items()} == dict.fromkeys(entered, False) | {"right": True}
    assert "% of its pixel values are not the reference's" in found["wrong"]["reason"]
    assert (found["breaks"]["images_per_s"], found["breaks"]["reason"]) == (None, "RuntimeError: no such device")
    assert found["other"]["images_per_s"] > 0
    assert found["other"]["reason"] == "it is another work"


def test_a_device_s_bandwidth_counts_what_is_read_and_written():
    found = device.bandwidth(CPU, size=1 << 20, calls=2, repeats=3)
    assert found.copy > 1e6
    assert found.fill > 1e6


def test_a_turn_lasts():
    times = device.times_to_last(lambda: time.sleep(0.002), 0.01, CPU)
    assert 2 <= times <= 5
    calls = []
    device.repeated(lambda: calls.append(1), 3)()
    assert len(calls) == 3


@pytest.mark.whole
def test_kernels_refuses_a_device_that_is_not_there(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    command = [sys.executable, str(ROOT / "bench" / "kernels.py"), "--device", "cuda", "--out", str(tmp_path / "rows")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "torch sees no CUDA device" in done.stderr


ALIGNED = """
import sys
sys.path.insert(0, {root!r})
import torch
from bench.compiled import compiled_launches
from fastcifar.recipes import RECIPES
from fastcifar.kernels import gpu
from fastcifar.kernels.gpu import adam, dropout, norm

def numbers(n, at):
    return torch.zeros(n + at, dtype=torch.int64)[at:]  # an odd place begins at no multiple of 16 bytes

with compiled_launches() as made:
    for at in (0, 1):
        for launch in (gpu.Launch(4, "inside"), gpu.Launch(4, "before")):
            spec = RECIPES["erasing"]
            images, out = torch.zeros(8, 32, 32, 3, dtype=torch.uint8), torch.zeros(4, 3, 32, 32)
            read, written = (numbers(8, at), numbers(8, at), numbers(3, at)), (numbers(4, at), numbers(4, at))
            gpu.render(images, *read, spec, out, *written, launch=launch)
        gpu.order_keys(numbers(5 + at, at), numbers(3, at))
        for threshold, stream, units in ((5, 1, 1), (1 << 31, 6, 128), (3 << 30, 6 + (1 << 16), 16)):
            dropout.kept(numbers(3, at), numbers(3, at), threshold, 2.0, stream, units)
        # the kernels of packs, for one run and for sixteen
        runs, cpu = 1 + 15 * at, torch.device("cpu")
        batch = numbers(runs * 4 * runs, at).view(runs, -1)
        drops = dropout.drops(range(runs), [[1]] * runs, [[2.0]] * runs, [6], [4 * runs], cpu)
        dropout.all_kept(batch, numbers(3 * runs, at).view(runs, 3), drops)
        out = torch.zeros(runs, 4 * runs, 32, 32, 3).permute(0, 1, 4, 2, 3)
        order, clocks, groups = numbers(runs * 16, at).view(runs, 16), numbers(3 * runs, at), numbers(runs, 0)
        gpu.render(images, numbers(8, at), order, clocks, spec, out, batch, batch, groups=groups)
        settings = adam.settings([adam.Setting(True, 0.0, 0.0)] * runs, (0.9, 0.999), cpu)
        adam.advance(torch.zeros(3, runs), torch.zeros(runs, 4 * runs), settings)
        flat, low = torch.zeros(64 * runs), torch.zeros(32 * runs, dtype=torch.bfloat16)
        pieces = adam.pieces([(0, 64)], runs, cpu)
        rows, weights = torch.zeros(runs, 3 * runs, 30), torch.zeros(runs, 30)
        norm.norm_gradients(rows, weights, norm.norm(rows, weights, weights, 1e-5), 1e-5)
        adam.step(flat, (low, flat[32 * runs :]), (flat, flat), low, pieces, settings, (0.9, 0.999), 1e-8)
half = len(made) // 2
print(len(made), len(set(map(id, made))), [a is b for a, b in zip(made[:half], made[half:])])
"""


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="it compiles for a device that is not there")
def test_kernels_are_compiled_once_wherever_their_tables_begin():
    pytest.importorskip("triton", reason="Triton is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", ALIGNED.format(root=str(ROOT))], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # two ways to launch (one kernel, two kernels), one for the order, one for dropout whatever its numbers; for packs
    # one for all masks, two for all pixels, two for LayerNorm, two for Adam
    assert done.stdout.split(" ", 2)[:2] == ["28", "12"], done.stdout
    assert "False" not in done.stdout
