"""Which units dropout keeps, by Triton: the words of `models.noise.Noise`, four units a block."""

import torch
import triton
import triton.language as tl
from fastcifar.kernels.gpu import dice
from torch import Tensor

from fastcifar.system.devices import on

HALF = tl.constexpr(1 << 31)
BLOCKS = 32  # of four units a program
COMPILE = {"num_warps": 1, "enable_fp_fusion": False}


# Nothing is compiled by itself for a layer's numbers, nor for a row of a table that begins where it may.
@triton.jit(do_not_specialize=["threshold", "stream", "units"], do_not_specialize_on_alignment=["ids", "clock"])
def _write_kept(ids, clock, kept, threshold, factor, stream, units, BLOCKS: tl.constexpr):
    """Program (n, part) writes units [4 * BLOCKS * part, 4 * BLOCKS * (part + 1)) of sample n.

    ids: (B,) int64; clock: int64 seed and epoch; kept: (B, units) float32, 0 where a unit's word is below threshold, an
    integer in [0, 2**32) that is given less 2**31, factor elsewhere.
    """
    n, blocks = tl.program_id(0), tl.program_id(1) * BLOCKS + tl.arange(0, BLOCKS)
    sample = tl.zeros((BLOCKS,), tl.int64) + tl.load(ids + n)
    a, b, c, d = dice.words(tl.load(clock), sample, tl.load(clock + 1), stream, blocks)
    # joined, the last index is the later operand: a, b, c, d in turn
    words = tl.join(tl.join(a, c), tl.join(b, d)).reshape(4 * BLOCKS)
    unit = tl.program_id(1) * (4 * BLOCKS) + tl.arange(0, 4 * BLOCKS)
    value = tl.where(words.to(tl.int64) - HALF >= threshold, factor, 0.0)
    tl.store(kept + n.to(tl.int64) * units + unit, value, unit < units)


def kept(ids: Tensor, clock: Tensor, threshold: int, factor: float, stream: int, units: int) -> Tensor:
    """(B, units) float32: 0 where a unit is dropped, else factor.

    ids: (B,) int64 sample ids; clock: `clock.clock_of`, on the same device; threshold: of 2**32, at and above which a
    word keeps its unit; stream: the third word of the counter.
    """
    out = torch.empty((len(ids), units), dtype=torch.float32, device=ids.device)
    if out.numel():
        grid = (len(ids), triton.cdiv(units, 4 * BLOCKS))
        with on(ids.device):
            # as a number of 32 bits with a sign, whatever it is: Triton compiles for each type
            shifted = threshold - int(HALF)
            _write_kept[grid](ids, clock, out, shifted, factor, stream, units, BLOCKS=BLOCKS, **COMPILE)
    return out
