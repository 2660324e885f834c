"""The CPU kernel against the reference: the same bits, or one unit in the last place where a mean may round apart."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fastcifar.kernels import cpu, reference
from fastcifar.kernels.cpu import enlarge
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT
from support.images import images, specs

from fastcifar.augment import Augment, draw
from fastcifar.errors import UsageError
from fastcifar.recipes import RECIPES

DTYPES = reference.OUT_DTYPES
INTEGERS = {torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.float32: torch.int32}


def units_apart(a: torch.Tensor, b: torch.Tensor) -> int:
    """The largest distance between two tensors of one dtype, in units in the last place."""

    def ordinals(x: torch.Tensor) -> torch.Tensor:
        bits = x.contiguous().view(INTEGERS[x.dtype]).long()
        lowest = -(1 << (8 * x.element_size() - 1))
        return torch.where(bits < 0, lowest - bits, bits)  # -0.0 and 0.0 are the same number

    return int((ordinals(a) - ordinals(b)).abs().max()) if a.numel() else 0


def assert_parity(spec: Augment, ids: np.ndarray, dtype: torch.dtype, seed: int = 0) -> None:
    x, draws = images(len(ids), seed), draw(spec, seed, 1, ids)
    expected, got = reference.apply(x, draws, spec, dtype), cpu.apply(x, draws, spec, dtype)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    assert got.is_contiguous(memory_format=torch.channels_last)
    if dtype == torch.float32:
        assert (got - expected).abs().max() <= 1e-6 / min(spec.std) if len(ids) else True
    else:
        assert units_apart(got, expected) <= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_in_every_dtype(recipe, dtype):
    assert_parity(RECIPES[recipe], np.arange(24 if "imagenet" in recipe else 300), dtype)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_bits_are_the_references(recipe):
    """Stronger than promised, and what lets a run's numbers not depend on the kernel."""
    x, draws = images(64), draw(RECIPES[recipe], 7, 7, np.arange(64))
    assert torch.equal(cpu.apply(x, draws, RECIPES[recipe]), reference.apply(x, draws, RECIPES[recipe]))


@pytest.mark.parametrize("n", [0, 1, 15, 16, 31, 33, 37, 512])
def test_ragged_batches(n):
    assert_parity(RECIPES["erasing"], np.arange(n), torch.bfloat16)


@settings(max_examples=60, deadline=None)
@given(spec=specs, seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(DTYPES))
def test_any_spec(spec, seed, dtype):
    assert_parity(replace(spec, size=None), np.arange(9), dtype, seed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_casting_rounds_as_torch_does(dtype):
    """Every level of every channel, blown up by tiny and huge stds: subnormal, normal and overflowing values."""
    levels = torch.arange(256, dtype=torch.uint8).repeat(4).view(1, 32, 32, 1).expand(1, 32, 32, 3).contiguous()
    draws = draw(Augment(), 0, 0, np.arange(1))
    for std in (1e-6, 1.53e-5, 1.6e-5, 0.3, 1.0, 99.0):
        spec = Augment(mean=(0.5, 0.001, 0.7), std=(std, std, std))
        got, expected = cpu.apply(levels, draws, spec, dtype), reference.apply(levels, draws, spec, dtype)
        assert torch.equal(got, expected), std
    tiny = Augment(mean=(0.0, 0.0019607, 0.0), std=(100.0, 100.0, 100.0))
    assert torch.equal(cpu.apply(levels, draws, tiny, dtype), reference.apply(levels, draws, tiny, dtype))


def test_rows_are_gathered_and_out_is_written_in_place():
    x, rows = images(50), np.array([49, 0, 0, 7])
    draws = draw(RECIPES["erasing"], 0, 0, rows)
    out = torch.empty((4, 3, 32, 32), memory_format=torch.channels_last)
    assert cpu.apply_rows(x, rows, draws, RECIPES["erasing"], torch.float32, out) is out
    assert torch.equal(out, reference.apply(x[torch.from_numpy(rows)], draws, RECIPES["erasing"]))


@pytest.mark.parametrize("rows", [[50], [-1], [0, 1 << 40]])
def test_rows_out_of_range_are_refused(rows):
    with pytest.raises(UsageError, match="50 images"):
        cpu.apply_rows(
            images(50), np.array(rows), draw(Augment(), 0, 0, np.arange(len(rows))), Augment(), torch.float32
        )


def test_out_must_be_channels_last():
    with pytest.raises(UsageError, match="channels_last"):
        cpu.apply_rows(
            images(2), np.arange(2), draw(Augment(), 0, 0, np.arange(2)), Augment(), torch.float32,
            torch.empty(2, 3, 32, 32),
        )  # fmt: skip


def test_threads_do_not_change_the_result():
    x, ids = images(100), np.arange(100)
    draws = draw(RECIPES["erasing"], 0, 0, ids)
    one, many = (
        cpu.apply_rows(x, ids, draws, RECIPES["erasing"], torch.bfloat16, threads=threads) for threads in (1, 5)
    )
    assert torch.equal(one, many)


def test_the_kernel_releases_the_gil():
    assert all(kernel.targetoptions["nogil"] for kernel in (cpu.pixels.render, cpu.dice.fill, cpu.dice.fill_kept))


LARGE = replace(RECIPES["erasing"], size=(256, 224), erase=0.7, crop=4, cutout=60)  # every operation
SIZES = [(32, 32), (33, 33), (100, 90), (256, 224), (384, 384), (1024, 640)]


@pytest.fixture
def small_cache(monkeypatch):
    """Every enlarged batch is larger than the last cache, so that it is streamed where its rows are aligned."""
    monkeypatch.setattr(cpu, "last_cache", lambda: 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_streaming_changes_no_bit(size, dtype, monkeypatch):
    """The rows of (32, 32) and larger multiples of 32 are whole cache lines. The others' rows are never streamed."""
    spec, x = replace(LARGE, size=size, cutout=20), images(3)
    draws = draw(spec, 5, 0, np.arange(3))
    cached = cpu.apply(x, draws, spec, dtype)
    monkeypatch.setattr(cpu, "last_cache", lambda: 0)
    assert torch.equal(cpu.apply(x, draws, spec, dtype), cached)
    assert torch.equal(cached, reference.apply(x, draws, spec, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 2, 63, 129])
def test_streamed_ragged_batches_on_several_threads(n, dtype, small_cache):
    x, draws = images(n), draw(LARGE, 5, 0, np.arange(n))
    got = cpu.apply_rows(x, np.arange(n), draws, LARGE, dtype, threads=3)
    assert torch.equal(got, reference.apply(x, draws, LARGE, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_unaligned_output_is_not_streamed(dtype, small_cache):
    x, draws = images(4), draw(LARGE, 5, 0, np.arange(4))
    expected = reference.apply(x, draws, LARGE, dtype)
    memory = torch.full((expected.numel() + 65,), 7.0, dtype=dtype)
    for offset in (1, 8):
        here = memory[offset : offset + expected.numel()]
        out = here.view(4, 224, 224, 3).permute(0, 3, 1, 2)
        assert out.data_ptr() % 64
        assert not cpu._streams(LARGE, here.view(4, -1))
        assert cpu.apply_rows(x, np.arange(4), draws, LARGE, dtype, out) is out
        assert torch.equal(out, expected)
        assert memory[offset - 1] == memory[offset + expected.numel()] == 7  # nothing is written beside it
        memory.fill_(7.0)


def test_batches_streamed_from_several_threads_at_once(small_cache):
    x, seeds = images(70), range(6)
    draws = [draw(LARGE, seed, 0, np.arange(70)) for seed in seeds]
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda seed: cpu.apply(x, draws[seed], LARGE, torch.bfloat16), seeds))
    for seed in seeds:
        assert torch.equal(got[seed], reference.apply(x, draws[seed], LARGE, torch.bfloat16))


def test_only_enlarged_batches_larger_than_the_last_cache_are_streamed(monkeypatch):
    batch = torch.empty(10, 224 * 224 * 3)
    for cache, spec, streamed in (
        (batch.nbytes - 1, LARGE, True),
        (batch.nbytes, LARGE, False),
        (0, replace(LARGE, size=None, cutout=0), False),
    ):
        monkeypatch.setattr(cpu, "last_cache", lambda cache=cache: cache)
        assert cpu._streams(spec, batch) == streamed


def test_any_change_to_a_file_of_the_folder_counts(tmp_path):
    for name in ("pixels.py", "enlarge.py", "casts.py"):
        (tmp_path / name).write_text("a = 1\n")
    seen = {cpu.pixels._sources(tmp_path)}
    for name in ("pixels.py", "enlarge.py", "casts.py"):
        (tmp_path / name).write_text("a = 2\n")
        seen.add(cpu.pixels._sources(tmp_path))
    assert len(seen) == 4


@pytest.mark.slow
def test_a_changed_file_is_compiled_again(tmp_path):
    """numba itself detects changes to pixels.py only; without the closure it would run the old `enlarge`."""
    for folder in ("fastcifar", "kernels"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import numpy as np, torch; from fastcifar.augment import Augment, draw; from fastcifar.kernels import cpu\n"
        "spec = Augment(size=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3)\n"
        "images = torch.full((1, 32, 32, 3), 255, dtype=torch.uint8)\n"
        "print(float(cpu.apply(images, draw(spec, 0, 0, np.arange(1)), spec).mean()), cpu.__file__)"
    )

    def mean() -> float:
        ran = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, check=True, text=True, capture_output=True,
            env=os.environ | {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
        )  # fmt: skip
        value, path = ran.stdout.split()
        assert Path(path).is_relative_to(tmp_path)
        return float(value)

    assert mean() == mean() == 1.0
    source = tmp_path / "kernels" / "cpu" / "enlarge.py"
    source.write_text(source.read_text().replace("casts.every(weight.type, 1.0)", "casts.every(weight.type, 2.0)"))
    assert mean() > 1.0


def test_streaming_stores_are_compiled_and_nothing_between_them_is_atomic():
    """numba counts the references to an array atomically, which waits for all stores: the speed would be lost."""
    tables, rows = enlarge.taps((64, 64)), np.empty(2 * (3 * 64 + enlarge.SLACK), np.float32)
    out32, out16 = np.ones(64 * 64 * 3, np.float32), np.empty(0, np.uint16)
    enlarge.enlarge(np.zeros(3074, np.float32), rows, *tables, out32, out16, 0, enlarge.FLOAT32, False)
    assert not out32.any()
    (llvm,) = enlarge.enlarge.inspect_llvm().values()
    assert llvm.count("!nontemporal") >= len(DTYPES)
    assert llvm.count("call void @NRT_incref(") <= 8  # once an image for each array that it is given
