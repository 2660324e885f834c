"""Dropout masks by Triton, from the random words of `models.dropout.Noise`: four units for each Philox block."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from fastcifar.kernels.gpu import dice
from torch import Tensor

from fastcifar.system.devices import on

HALF = tl.constexpr(1 << 31)
BLOCKS = 32  # Philox blocks, of four units each, for one program
COMPILE = {"num_warps": 1, "enable_fp_fusion": False}


@triton.jit
def _write_part(sample, clock, row, threshold, factor, stream, units, part, BLOCKS: tl.constexpr):
    """Write units [4 * BLOCKS * part, 4 * BLOCKS * (part + 1)) of a sample's mask, which begins at ``row``."""
    blocks = part * BLOCKS + tl.arange(0, BLOCKS)
    samples = tl.zeros((BLOCKS,), tl.int64) + sample
    a, b, c, d = dice.philox_words(tl.load(clock), samples, tl.load(clock + 1), stream, blocks)
    # tl.join puts its operands along a new last axis; joined in this order, the words are a, b, c, d in turn
    words = tl.join(tl.join(a, c), tl.join(b, d)).reshape(4 * BLOCKS)
    unit = part * (4 * BLOCKS) + tl.arange(0, 4 * BLOCKS)
    value = tl.where(words.to(tl.int64) - HALF >= threshold, factor, 0.0)
    tl.store(row + unit, value, unit < units)


# Specialising is switched off, so that the kernel is not compiled again for each layer or each alignment of a row.
@triton.jit(do_not_specialize=["threshold", "stream", "units"], do_not_specialize_on_alignment=["ids", "clock"])
def _write_kept(ids, clock, kept, threshold, factor, stream, units, BLOCKS: tl.constexpr):
    """Program (n, part) writes units [4 * BLOCKS * part, 4 * BLOCKS * (part + 1)) of sample n.

    ids: (B,) int64. clock: int64 seed and epoch. kept: (B, units) float32, 0 where a unit's word is below the
    threshold, else factor. threshold: an integer in [0, 2**32), minus 2**31.
    """
    n, part = tl.program_id(0), tl.program_id(1)
    row = kept + n.to(tl.int64) * units
    _write_part(tl.load(ids + n), clock, row, threshold, factor, stream, units, part, BLOCKS)


@triton.jit(do_not_specialize=["batch", "layers"], do_not_specialize_on_alignment=["ids", "clocks"])
def _write_all_kept(
    ids, clocks, out, groups, thresholds, factors, places, parts, batch, layers, BLOCKS: tl.constexpr
):  # fmt: skip
    """Program (n, i, r) writes part i of the masks of sample n of run r.

    ids: (G, batch) int64. clocks: (G, 3) int64. groups: (R,) int64, each run's row of ids and clocks. thresholds:
    (R, layers) int64, minus 2**31; factors: (R, layers) float32. places: (layers, 3) int64, stream, units and the
    first value in out per sample and run. parts: (N, 2) int64, the layer and the part of `_write_part`.
    """
    n, run = tl.program_id(0).to(tl.int64), tl.program_id(2).to(tl.int64)
    entry = parts + tl.program_id(1) * 2
    layer, part = tl.load(entry), tl.load(entry + 1).to(tl.int32)
    place, own, group = places + layer * 3, run * layers + layer, tl.load(groups + run)
    units = tl.load(place + 1)
    # a layer's masks are (R, batch, units), after those of the layers before it
    first = tl.load(place + 2) * tl.num_programs(2) * batch + (run * batch + n) * units
    threshold, factor = tl.load(thresholds + own), tl.load(factors + own)
    sample = tl.load(ids + group * batch + n)
    stream = tl.load(place).to(tl.int32)
    _write_part(sample, clocks + group * 3, out + first, threshold, factor, stream, units, part, BLOCKS)


class Drops(NamedTuple):
    """The dropout layers of several runs of one network, on a device. `_write_all_kept` describes the tensors."""

    groups: Tensor
    thresholds: Tensor
    factors: Tensor
    places: Tensor
    parts: Tensor
    units: tuple[int, ...]
    """The units of each layer."""


def drops(
    groups: Sequence[int],
    thresholds: Sequence[Sequence[int]],
    factors: Sequence[Sequence[float]],
    streams: Sequence[int],
    units: Sequence[int],
    device: torch.device,
) -> Drops:
    """Return the dropout layers of R runs. groups: each run's row of the batches. thresholds, factors: as `kept` takes
    them, for each run and layer. streams, units: for each layer.
    """
    firsts = [sum(units[:layer]) for layer in range(len(units))]
    places = torch.tensor(list(zip(streams, units, firsts, strict=True)), dtype=torch.int64)
    parts = [(layer, part) for layer, count in enumerate(units) for part in range(triton.cdiv(count, 4 * BLOCKS))]
    return Drops(
        torch.tensor(groups, device=device),
        (torch.tensor(thresholds, dtype=torch.int64) - int(HALF)).to(device),
        torch.tensor(factors, dtype=torch.float32).to(device),
        places.to(device),
        torch.tensor(parts, dtype=torch.int64).to(device),
        tuple(units),
    )


def all_kept(ids: Tensor, clocks: Tensor, drops: Drops) -> list[Tensor]:
    """Return the masks of all runs by layer, (R, B, units) float32, in one launch. They have the bits of `kept`.

    ids: (G, B) int64 sample ids. clocks: (G, 3), each a `cursor.clock_of`, on the same device.
    """
    batch, runs, layers = ids.shape[1], len(drops.groups), len(drops.units)
    out = torch.empty(runs * batch * sum(drops.units), dtype=torch.float32, device=ids.device)
    if out.numel():
        with on(ids.device):
            _write_all_kept[(batch, len(drops.parts), runs)](
                ids.contiguous(), clocks.contiguous(), out, drops.groups, drops.thresholds, drops.factors,
                drops.places, drops.parts, batch, layers, BLOCKS=BLOCKS, **COMPILE,
            )  # fmt: skip
    by_layer = out.split([runs * batch * units for units in drops.units])
    return [mask.view(runs, batch, units) for mask, units in zip(by_layer, drops.units, strict=True)]


def kept(ids: Tensor, clock: Tensor, threshold: int, factor: float, stream: int, units: int) -> Tensor:
    """Return the dropout mask, (B, units) float32: 0 where a unit is dropped, else factor.

    ids: (B,) int64 sample ids. clock: a `cursor.clock_of`, on the same device. threshold: in [0, 2**32); a unit is kept
    where its word is at least this. stream: the third word of the counter.
    """
    out = torch.empty((len(ids), units), dtype=torch.float32, device=ids.device)
    if out.numel():
        grid = (len(ids), triton.cdiv(units, 4 * BLOCKS))
        with on(ids.device):
            # Triton compiles for each integer type, and the shifted threshold is always a signed 32-bit number.
            shifted = threshold - int(HALF)
            _write_kept[grid](ids, clock, out, shifted, factor, stream, units, BLOCKS=BLOCKS, **COMPILE)
    return out
