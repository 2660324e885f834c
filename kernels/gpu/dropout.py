"""Dropout masks by Triton, from the random words of `models.dropout.Noise`: four units for each Philox block."""

import torch
import triton
import triton.language as tl
from fastcifar.kernels.gpu import dice
from torch import Tensor

from fastcifar.system.devices import on

HALF = tl.constexpr(1 << 31)
BLOCKS = 32  # Philox blocks, of four units each, for one program
COMPILE = {"num_warps": 1, "enable_fp_fusion": False}


# Specialising is switched off, so that the kernel is not compiled again for each layer or each alignment of a row.
@triton.jit(do_not_specialize=["threshold", "stream", "units"], do_not_specialize_on_alignment=["ids", "clock"])
def _write_kept(ids, clock, kept, threshold, factor, stream, units, BLOCKS: tl.constexpr):
    """Program (n, part) writes units [4 * BLOCKS * part, 4 * BLOCKS * (part + 1)) of sample n.

    ids: (B,) int64. clock: int64 seed and epoch. kept: (B, units) float32, 0 where a unit's word is below the
    threshold, else factor. threshold: an integer in [0, 2**32), minus 2**31.
    """
    n, blocks = tl.program_id(0), tl.program_id(1) * BLOCKS + tl.arange(0, BLOCKS)
    sample = tl.zeros((BLOCKS,), tl.int64) + tl.load(ids + n)
    a, b, c, d = dice.philox_words(tl.load(clock), sample, tl.load(clock + 1), stream, blocks)
    # tl.join puts its operands along a new last axis; joined in this order, the words are a, b, c, d in turn
    words = tl.join(tl.join(a, c), tl.join(b, d)).reshape(4 * BLOCKS)
    unit = tl.program_id(1) * (4 * BLOCKS) + tl.arange(0, 4 * BLOCKS)
    value = tl.where(words.to(tl.int64) - HALF >= threshold, factor, 0.0)
    tl.store(kept + n.to(tl.int64) * units + unit, value, unit < units)


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
