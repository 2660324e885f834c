"""Sums of the shares that programs computed of a layer's gradients, for several runs, in one launch."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastcifar.system.devices import on

BLOCK = 1024  # values of one program


@triton.jit(do_not_specialize=["chunks", "first", "count"])
def write_sums(shares, weights, bias, chunks, first, count, BLOCK: tl.constexpr):
    """Program (i, r) sums values [i * BLOCK, (i + 1) * BLOCK) of run r, chunk after chunk.

    shares: (R, chunks, count) float32. weights: (R, first), the sums of the first values. bias: (R, count - first).
    """
    run, v = tl.program_id(1).to(tl.int64), tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for chunk in range(chunks):
        total += tl.load(shares + (run * chunks + chunk) * count + v, v < count, 0.0)
    tl.store(weights + run * first + v, total.to(weights.dtype.element_ty), v < first)
    after = bias + run * (count - first) + v - first
    tl.store(after, total.to(bias.dtype.element_ty), (v >= first) & (v < count))


def summed(shares: Tensor, outputs: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the sums over chunks in a dtype: of the weights (R, V), and of the bias (R, outputs).

    shares: (R, chunks, V + outputs) float32, contiguous.
    """
    runs, chunks, count = shares.shape
    weights, bias = (
        torch.empty((runs, values), dtype=dtype, device=shares.device) for values in (count - outputs, outputs)
    )
    with on(shares.device):
        write_sums[(triton.cdiv(count, BLOCK), runs)](
            shares, weights, bias, chunks, count - outputs, count, BLOCK=BLOCK, num_warps=4
        )
    return weights, bias
