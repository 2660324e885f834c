"""The CPU kernel against the reference: the same bits, or one unit in the last place where a mean may round apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fastcifar.kernels import cpu, reference
from hypothesis import given, settings
from hypothesis import strategies as st
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
