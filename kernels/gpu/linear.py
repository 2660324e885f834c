"""Linear layers of few values by Triton, of several runs: one launch forward, and three backward.

torch's batched products on CUDA want rows of a multiple of 16 bytes, and for the gradient of small weights they use few
blocks of threads. Here a program holds all values of its rows, and many programs share the sum over rows. The sums do
not depend on the order in which programs run, nor on the number of runs.
"""

import torch
import triton
import triton.language as tl
from fastcifar.kernels.gpu.sums import summed
from fastcifar.kernels.gpu.tiles import between_runs, product, wide
from torch import Tensor

from fastcifar.system.devices import on

ROWS = 128  # rows for one program
CHUNK = 512  # rows whose share of the weights' gradient one program adds up
STEP = 64  # of these rows at a time


@triton.jit(do_not_specialize=["rows"])
def write_linear(
    x, weight, bias, out, run_values, rows, IN: tl.constexpr, OUT: tl.constexpr, ALONG: tl.constexpr,
    ACROSS: tl.constexpr, ROWS: tl.constexpr, DEEP: tl.constexpr, WIDE: tl.constexpr, BIASED: tl.constexpr,
):  # fmt: skip
    """Program (i, r) makes rows [i * ROWS, (i + 1) * ROWS) of run r.

    x: rows of IN values, ``run_values`` from one run to the next; 0 where the runs share them. weight: IN * OUT
    values of each run, value (n, k) at n * ACROSS + k * ALONG. bias: (R, OUT). out: (R, rows, OUT). DEEP, WIDE: IN and
    OUT, rounded up.
    """
    run, m = tl.program_id(1).to(tl.int64), tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k, n = tl.arange(0, DEEP), tl.arange(0, WIDE)
    values = tl.load(x + run * run_values + m[:, None] * IN + k[None, :], (m < rows)[:, None] & (k < IN)[None, :], 0.0)
    at = run * (IN * OUT) + n[None, :] * ACROSS + k[:, None] * ALONG
    own = tl.load(weight + at, (n < OUT)[None, :] & (k < IN)[:, None], 0.0)
    total = product(values.to(own.dtype), own, None)
    if BIASED:
        total += tl.load(bias + run * OUT + n, n < OUT, 0.0).to(tl.float32)[None, :]
    at, here = (run * rows + m[:, None]) * OUT + n[None, :], (m < rows)[:, None] & (n < OUT)[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), here)


@triton.jit(do_not_specialize=["rows", "chunk"])
def write_linear_gradients(
    x, upstream, shares, run_values, rows, chunk, IN: tl.constexpr, OUT: tl.constexpr,
    STEP: tl.constexpr, DEEP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Program (i, r) sums over rows [i * chunk, (i + 1) * chunk) of run r.

    upstream: (R, rows, OUT), the gradient of `write_linear`'s out. shares: (R, chunks, IN + 1, OUT) float32: of the
    gradient of the weights, and last of the bias. chunk: a multiple of STEP.
    """
    run, part = tl.program_id(1).to(tl.int64), tl.program_id(0)
    k, n = tl.arange(0, DEEP), tl.arange(0, WIDE)
    total, of_bias = tl.zeros((DEEP, WIDE), tl.float32), tl.zeros((STEP, WIDE), tl.float32)
    for first in range(part * chunk, tl.minimum(part * chunk + chunk, rows), STEP):
        m = first + tl.arange(0, STEP)
        at, here = run * run_values + m[:, None] * IN + k[None, :], (m < rows)[:, None] & (k < IN)[None, :]
        values = tl.load(x + at, here, 0.0)
        at, here = (run * rows + m[:, None]) * OUT + n[None, :], (m < rows)[:, None] & (n < OUT)[None, :]
        g = tl.load(upstream + at, here, 0.0)
        total = product(tl.trans(values.to(g.dtype)), g, total)
        of_bias += g.to(tl.float32)
    own = shares + (run * tl.num_programs(0) + part) * ((IN + 1) * OUT)
    tl.store(own + k[:, None] * OUT + n[None, :], total, (k < IN)[:, None] & (n < OUT)[None, :])
    tl.store(own + IN * OUT + n, tl.sum(of_bias, 0), n < OUT)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x @ weight.mT + bias of each run, (R, ..., out) in the dtype of the weights.

    x: (R or 1, ..., in), contiguous; 1 where the runs share it. It is rounded to the weights' dtype. weight:
    (R, out, in), dense in a run; in and out at most 128. bias: (R, out), contiguous.
    """
    out = torch.empty((len(weight), *x.shape[1:-1], weight.shape[1]), dtype=weight.dtype, device=x.device)
    _multiply(x, weight, bias, out)
    return out


def linear_gradients(x: Tensor, weight: Tensor, upstream: Tensor, of_x: bool) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return the gradients of x, weight and bias of `linear`; None for x if not ``of_x``.

    upstream: the gradient of its result, contiguous.
    """
    made = None
    if of_x:
        assert len(x) == len(weight)  # inputs that the runs share need no gradient
        made = torch.empty_like(x)
        _multiply(upstream, weight.mT, None, made)
    runs, size, outputs = len(weight), x.shape[-1], weight.shape[1]
    rows = upstream[0].numel() // outputs
    shares = torch.empty((runs, triton.cdiv(rows, CHUNK), (size + 1) * outputs), dtype=torch.float32, device=x.device)
    with on(x.device):
        write_linear_gradients[(shares.shape[1], runs)](
            x, upstream, shares, between_runs(x), rows, CHUNK, IN=size, OUT=outputs, STEP=STEP, DEEP=wide(size),
            WIDE=wide(outputs), num_warps=4,
        )  # fmt: skip
    of_weight, of_bias = summed(shares, outputs, weight.dtype)
    return made, of_weight.view(runs, size, outputs).mT, of_bias


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    runs, outputs, size = weight.shape
    rows = out[0].numel() // outputs
    assert weight.stride(0) == outputs * size  # dense in a run
    with on(x.device):
        write_linear[(triton.cdiv(rows, ROWS), runs)](
            x, weight, weight if bias is None else bias, out, between_runs(x), rows, IN=size, OUT=outputs,
            ALONG=weight.stride(2), ACROSS=weight.stride(1), ROWS=ROWS, DEEP=wide(size), WIDE=wide(outputs),
            BIASED=bias is not None, num_warps=4,
        )  # fmt: skip
