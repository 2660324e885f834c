"""Dropout by sample: the same units of a sample, whatever batch it is in, on whatever device."""

import importlib
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcifar.models.dropout import Dropout, Noise
from fastcifar.rng.cursor import clock_of
from fastcifar.rng.philox import Stream, words

pytest.importorskip("triton", reason="Triton is not installed")
dropout = importlib.import_module("fastcifar.kernels.gpu.dropout")
interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="the kernel is compiled, for CUDA tensors")

SEEDS = st.integers(0, (1 << 64) - 1)
EPOCHS = st.integers(0, (1 << 31) - 1)
LAYERS = st.integers(0, (1 << 16) - 1)
RATES = st.floats(0, 0.99)
IDS = st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=8, unique=True)


def stream(layer):
    return Stream.DROPOUT + (layer << 16)


@given(SEEDS, EPOCHS, IDS, LAYERS, RATES, st.integers(1, 21))
def test_kept_units_are_philox_s_words_at_or_above_the_rate(seed, epoch, ids, layer, p, units):
    kept = Noise.of(seed, epoch, torch.tensor(ids)).kept(p, layer, units)
    assert (kept.shape, kept.dtype) == ((len(ids), units), torch.float32)
    for unit in range(units):
        word = words(seed, stream(layer), np.array(ids), epoch, unit // 4)[unit % 4]
        expected = np.where(word >= round(p * 2**32), np.float32(1 / (1 - p)), np.float32(0))
        assert kept[:, unit].tolist() == expected.tolist()


@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=interpreted), pytest.param("cuda", marks=pytest.mark.gpu)]
)
@settings(max_examples=25)
@given(seed=SEEDS, epoch=EPOCHS, ids=IDS, layer=LAYERS, p=RATES, units=st.integers(1, 150))
def test_the_gpu_kernel_s_units_are_the_same_bit_for_bit(seed, epoch, ids, layer, p, units, device):
    ids = torch.tensor(ids)
    clock = clock_of(seed, epoch, torch.device(device))
    got = dropout.kept(
        ids.to(device), clock, round(p * 2**32), float(np.float32(1 / (1 - p))), int(stream(layer)), units
    )
    assert got.dtype == torch.float32
    assert torch.equal(got.cpu(), Noise.of(seed, epoch, ids).kept(p, layer, units))


@given(SEEDS, EPOCHS, IDS)
def test_seed_and_epoch_may_come_from_a_clock(seed, epoch, ids):
    ids = torch.tensor(ids)
    told = Noise(clock_of(seed, epoch, ids.device), ids)
    assert torch.equal(told.kept(0.5, 1, 33), Noise.of(seed, epoch, ids).kept(0.5, 1, 33))


@pytest.mark.gpu
def test_on_cuda_the_same_units_are_kept():
    ids = torch.arange(9)
    assert torch.equal(Noise.of(3, 4, ids.cuda()).kept(0.3, 2, 70).cpu(), Noise.of(3, 4, ids).kept(0.3, 2, 70))


@given(SEEDS, IDS, RATES, st.integers(1, 12), st.data())
def test_neither_the_batch_nor_its_order_nor_the_other_units_matter(seed, ids, p, units, data):
    rows = data.draw(st.lists(st.integers(0, len(ids) - 1), min_size=1))
    all_ids = torch.tensor(ids)
    together = Noise.of(seed, 1, all_ids).kept(p, 0, units + 5)
    assert torch.equal(Noise.of(seed, 1, all_ids[rows]).kept(p, 0, units), together[rows, :units])


def test_every_part_of_its_address_matters():
    ids = torch.arange(16)
    base = Noise.of(1, 1, ids).kept(0.5, 0, 64)
    others = [
        Noise.of(2, 1, ids).kept(0.5, 0, 64),
        Noise.of(1, 2, ids).kept(0.5, 0, 64),
        Noise.of(1, 1, ids + 16).kept(0.5, 0, 64),
        Noise.of(1, 1, ids).kept(0.5, 1, 64),
        torch.cat([base[:, 32:], base[:, :32]], 1),
    ]
    for other in others:
        # independent halves agree half of the time: 1,024 fair coins, six deviations
        assert abs(int((base == other).sum()) - 512) < 6 * 16


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_rate_is_the_one_asked_for(p):
    kept = Noise.of(0, 1, torch.arange(1000)).kept(p, 3, 257)
    dropped = int((kept == 0).sum())
    n = kept.numel()
    assert abs(dropped - n * p) < 5 * sqrt(n * p * (1 - p))
    assert set(kept.unique().tolist()) == {0.0, float(np.float32(1 / (1 - p)))}
    # by unit too: no unit is dropped more often than others
    by_unit = (kept == 0).sum(0).numpy()
    assert np.abs(by_unit - 1000 * p).max() < 5 * sqrt(1000 * p * (1 - p))


def test_kept_units_are_pinned():
    kept = Noise.of(7, 1, torch.tensor([0, 1, 49_999])).kept(0.5, 0, 16)
    assert ["".join("x" if value else "." for value in row) for row in kept] == [
        "...x....xxxx...x",
        "x.xxxxxx.xxxx.xx",
        ".x...x.xx.xxx.xx",
    ]


@pytest.mark.parametrize(("p", "noise"), [(0.0, Noise.of(0, 1, torch.arange(4))), (0.5, None), (0.0, None)])
def test_nothing_happens_without_a_rate_or_without_noise(p, noise):
    x = torch.randn(4, 6)
    assert Dropout(p, 0)(x, noise) is x


def test_units_are_dropped_and_the_others_scaled():
    x, noise = torch.randn(5, 3, 4), Noise.of(2, 1, torch.arange(5))
    expected = x * noise.kept(0.3, 9, 12).view(5, 3, 4)
    assert torch.equal(Dropout(0.3, 9)(x, noise), expected)
    assert (expected == 0).any()
    assert torch.equal(expected[expected != 0], (x * np.float32(1 / 0.7))[expected != 0])


def test_whole_channels_are_dropped():
    x, noise = torch.rand(50, 8, 2, 3) + 1, Noise.of(2, 1, torch.arange(50))
    dropped = Dropout(0.4, 0, channels=True)(x, noise)
    assert torch.equal(dropped, x * noise.kept(0.4, 0, 8)[:, :, None, None])
    zeros = (dropped == 0).flatten(2)
    assert torch.equal(zeros.all(2), zeros.any(2))
    assert zeros.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dtype_of_the_activations_stays(dtype):
    noise = Noise.of(2, 1, torch.arange(5))
    dropped = Dropout(0.5, 0)(torch.ones(5, 9, dtype=dtype), noise)
    assert dropped.dtype == dtype
    assert torch.equal(dropped.float(), noise.kept(0.5, 0, 9))


def test_gradients_are_those_of_the_kept_units():
    x, noise = torch.ones(5, 9, requires_grad=True), Noise.of(2, 1, torch.arange(5))
    Dropout(0.5, 0)(x, noise).sum().backward()
    assert torch.equal(x.grad, noise.kept(0.5, 0, 9))


def test_a_dropout_says_what_it_is():
    assert repr(Dropout(0.5, 3, channels=True)) == "Dropout(p=0.5, layer=3, channels=True)"
