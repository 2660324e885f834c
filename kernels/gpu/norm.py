"""LayerNorm of short rows by Triton, with weights of each run: a launch forward, and one backward besides a sum.

torch's kernel on CUDA gives each row a block of threads, which for rows of 30 values mostly wait.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastcifar.system.devices import on

ROWS = 64  # rows for one program of four warps, forward
MOST = 64  # chunks of a run's rows, backward; each has sums of its own, which torch adds up in a fixed order
COMPILE = {"num_warps": 4, "enable_fp_fusion": False}


@triton.jit
def _normal(x, here, length, EPS: tl.constexpr):
    """Return the rows of a block with mean 0 and variance 1, and 1 / their standard deviation."""
    centred = tl.where(here, x - (tl.sum(x, 1) / length)[:, None], 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / length + EPS)
    return centred * inverse[:, None], inverse


@triton.jit(do_not_specialize=["rows", "length"])
def write_norm(
    x, weight, bias, out, rows, length, EPS: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """Program (i, r) normalises rows [i * ROWS, (i + 1) * ROWS) of run r.

    x: (R, rows, length). weight, bias: (R, length) float32. out: as x, float32. WIDE: length, rounded up to a power of
    two.
    """
    run, n = tl.program_id(1).to(tl.int64), tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.arange(0, WIDE)
    here = (n < rows)[:, None] & (k < length)[None, :]
    at = (run * rows + n[:, None]) * length + k[None, :]
    normal, _ = _normal(tl.load(x + at, here, 0.0).to(tl.float32), here, length, EPS)
    w, b = tl.load(weight + run * length + k, k < length, 0.0), tl.load(bias + run * length + k, k < length, 0.0)
    tl.store(out + at, normal * w[None, :] + b[None, :], here)


@triton.jit(do_not_specialize=["rows", "length", "chunk"])
def write_norm_gradients(
    x, weight, upstream, out, sums, rows, length, chunk, EPS: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """Program (i, r) does the backward of rows [i * chunk, (i + 1) * chunk) of run r.

    upstream: the gradient of `write_norm`'s out. out: the gradient of x. sums: (2, R, chunks, length) float32, the
    gradients of weight and bias from these rows. chunk: a multiple of ROWS.
    """
    run, k = tl.program_id(1).to(tl.int64), tl.arange(0, WIDE)
    w = tl.load(weight + run * length + k, k < length, 0.0)
    of_weight, of_bias = tl.zeros((ROWS, WIDE), tl.float32), tl.zeros((ROWS, WIDE), tl.float32)
    begin = tl.program_id(0) * chunk
    for first in range(begin, tl.minimum(begin + chunk, rows), ROWS):
        n = first + tl.arange(0, ROWS)
        here = (n < rows)[:, None] & (k < length)[None, :]
        at = (run * rows + n[:, None]) * length + k[None, :]
        normal, inverse = _normal(tl.load(x + at, here, 0.0).to(tl.float32), here, length, EPS)
        g = tl.load(upstream + at, here, 0.0).to(tl.float32)
        of_weight += g * normal  # summed over the rows at the end only, as threads then exchange values
        of_bias += g
        g = g * w[None, :]
        along, mean = tl.sum(g * normal, 1) / length, tl.sum(g, 1) / length
        g = (g - mean[:, None] - normal * along[:, None]) * inverse[:, None]
        tl.store(out + at, g.to(out.dtype.element_ty), here)
    own = sums + (run * tl.num_programs(0) + tl.program_id(0)) * length + k
    tl.store(own, tl.sum(of_weight, 0), k < length)
    tl.store(own + tl.num_programs(1) * tl.num_programs(0) * length, tl.sum(of_bias, 0), k < length)


def norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Return LayerNorm of the last dimension, float32. x: (R, ..., L), contiguous. weight, bias: (R, L) float32."""
    runs, length, out = len(x), x.shape[-1], torch.empty(x.shape, dtype=torch.float32, device=x.device)
    rows = x.numel() // (runs * length)
    with on(x.device):
        write_norm[(triton.cdiv(rows, ROWS), runs)](
            x, weight, bias, out, rows, length, EPS=eps, ROWS=ROWS, WIDE=triton.next_power_of_2(length), **COMPILE
        )
    return out


def norm_gradients(x: Tensor, weight: Tensor, upstream: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias of `norm`. upstream: the gradient of its result, contiguous."""
    runs, length, out = len(x), x.shape[-1], torch.empty_like(x)
    rows = x.numel() // (runs * length)
    chunk = triton.cdiv(triton.cdiv(rows, MOST), ROWS) * ROWS
    sums = torch.empty((2, runs, triton.cdiv(rows, chunk), length), dtype=torch.float32, device=x.device)
    with on(x.device):
        write_norm_gradients[(sums.shape[2], runs)](
            x, weight, upstream, out, sums, rows, length, chunk,
            EPS=eps, ROWS=ROWS, WIDE=triton.next_power_of_2(length), **COMPILE,
        )  # fmt: skip
    of_weight, of_bias = sums.sum(2)
    return out, of_weight, of_bias
