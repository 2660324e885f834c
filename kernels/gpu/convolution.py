"""Convolutions of several runs with their bias and ReLU by Triton: one launch forward, and three backward.

Each is a product of matrices whose rows are gathered as they are multiplied, so no matrix of receptive fields is
written. Images lie in memory as channels_last, weights as (out, kernel, kernel, in). No sum depends on the order in
which programs run, nor on the number of runs.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from fastcifar.kernels.gpu.sums import summed
from fastcifar.kernels.gpu.tiles import between_runs, product, wide
from torch import Tensor

from fastcifar.system.devices import on

CHUNK = 1024  # outputs whose share of the weights' gradient one program adds up


class Tile(NamedTuple):
    """How a program divides its work."""

    rows: int
    """The outputs, or pixels of a gradient, that it multiplies at a time: a divisor of CHUNK."""
    deep: int
    """At most so many values of a receptive field at a time; of a gradient of pixels, all of them."""
    stages: int = 3
    """Loads in flight, in multiples of what is multiplied at a time."""


WARPS = 4
FORWARD, WEIGHTS, PIXELS = Tile(128, 64), Tile(64, 128), Tile(128, 0, stages=2)
EXACT = Tile(32, 32, stages=1)
"""The tile in float32, whose values take twice the shared memory."""


class Sizes(NamedTuple):
    """The sizes of a square convolution without groups or dilation, in pixels and channels."""

    side: int
    channels: int
    out: int
    """The channels of the result."""
    kernel: int
    stride: int
    padding: int

    @property
    def places(self) -> int:
        """The outputs along a side."""
        return (self.side + 2 * self.padding - self.kernel) // self.stride + 1

    def constants(self) -> dict[str, int]:
        """Return the kernels' constants. Channels are rounded up to powers of two that tensor cores multiply."""
        return {
            "SIDE": self.side, "PLACES": self.places, "C": self.channels, "N": self.out, "KERNEL": self.kernel,
            "STRIDE": self.stride, "PAD": self.padding, "WIDE": wide(self.out),
        }  # fmt: skip


@triton.jit
def _fields(x, m, first, rows, SIDE: tl.constexpr, PLACES: tl.constexpr, C: tl.constexpr, KERNEL: tl.constexpr,
            STRIDE: tl.constexpr, PAD: tl.constexpr, DEEP: tl.constexpr):  # fmt: skip
    """Return values first, first + 1, ... of the receptive fields of outputs m (M,), (M, DEEP).

    A field's values lie by place, then channel. first: a multiple of DEEP.
    """
    k = first + tl.arange(0, DEEP)
    if C % DEEP == 0:  # all of these values have one place, so that little is computed for each of them
        place = first // C
    else:
        place = (k // C)[None, :]
    h = (m // PLACES % PLACES * STRIDE - PAD)[:, None] + place // KERNEL
    w = (m % PLACES * STRIDE - PAD)[:, None] + place % KERNEL
    here = (m < rows)[:, None] & (h >= 0) & (h < SIDE) & (w >= 0) & (w < SIDE)
    if C % DEEP != 0:
        here &= (k < KERNEL * KERNEL * C)[None, :]
    at = (((m // (PLACES * PLACES))[:, None] * SIDE + h) * SIDE + w) * C + (k % C)[None, :]
    return tl.load(x + at, here, 0.0)


@triton.jit
def _upstream(upstream, out, at, here):
    """Return the gradient of the outputs before ReLU: 0 where ReLU gave 0, but not where it gave NaN, as in torch."""
    return tl.where(tl.load(out + at, here, 0.0) <= 0, 0.0, tl.load(upstream + at, here, 0.0))


@triton.jit(do_not_specialize=["rows"])
def write_convolved(
    x, weight, bias, out, run_values, rows,
    SIDE: tl.constexpr, PLACES: tl.constexpr, C: tl.constexpr, N: tl.constexpr, KERNEL: tl.constexpr,
    STRIDE: tl.constexpr, PAD: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    """Program (i, r) makes outputs [i * ROWS, (i + 1) * ROWS) of run r, all channels.

    x: images of ``run_values`` values a run, 0 where the runs share them. weight: (R, N, KERNEL * KERNEL * C). bias:
    (R, N). out: (R, rows, N). DEEP: the values of receptive fields that are multiplied at a time.
    """
    run, m, n = tl.program_id(1).to(tl.int64), tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDE)
    total = tl.zeros((ROWS, WIDE), tl.float32)
    for first in range(0, KERNEL * KERNEL * C, DEEP):
        k = first + tl.arange(0, DEEP)
        fields = _fields(x + run * run_values, m, first, rows, SIDE, PLACES, C, KERNEL, STRIDE, PAD, DEEP)
        at = n[None, :] * (KERNEL * KERNEL * C) + k[:, None]
        here = (n < N)[None, :] & (k < KERNEL * KERNEL * C)[:, None]
        own = tl.load(weight + run * (N * KERNEL * KERNEL * C) + at, here, 0.0)
        total = product(fields, own, total)
    total += tl.load(bias + run * N + n, n < N, 0.0).to(tl.float32)[None, :]
    at, here = (run * rows + m[:, None]) * N + n[None, :], (m < rows)[:, None] & (n < N)[None, :]
    positive = tl.maximum(total, 0.0, propagate_nan=tl.PropagateNan.ALL)  # a run that diverges must show it
    tl.store(out + at, positive.to(out.dtype.element_ty), here)


@triton.jit(do_not_specialize=["rows", "chunk"])
def write_weight_gradients(
    x, upstream, out, shares, run_values, rows, chunk,
    SIDE: tl.constexpr, PLACES: tl.constexpr, C: tl.constexpr, N: tl.constexpr, KERNEL: tl.constexpr,
    STRIDE: tl.constexpr, PAD: tl.constexpr, WIDE: tl.constexpr, STEP: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    """Program (i, j, r) sums over outputs [j * chunk, (j + 1) * chunk) of run r, for values [i * DEEP, (i + 1) * DEEP)
    of the receptive fields.

    upstream: the gradient of `write_convolved`'s out. shares: (R, chunks, N * KERNEL * KERNEL * C + N)
    float32: of the gradient of the weights, then of the bias. chunk: a multiple of STEP.
    """
    run, part, n = tl.program_id(2).to(tl.int64), tl.program_id(1), tl.arange(0, WIDE)
    value = tl.program_id(0) * DEEP
    total, of_bias = tl.zeros((WIDE, DEEP), tl.float32), tl.zeros((WIDE,), tl.float32)
    begin = part * chunk
    for first in range(begin, tl.minimum(begin + chunk, rows), STEP):
        m = first + tl.arange(0, STEP)
        fields = _fields(x + run * run_values, m, value, rows, SIDE, PLACES, C, KERNEL, STRIDE, PAD, DEEP)
        at, here = (run * rows + m[:, None]) * N + n[None, :], (m < rows)[:, None] & (n < N)[None, :]
        g = _upstream(upstream, out, at, here)
        total = product(tl.trans(g), fields, total)
        of_bias += tl.sum(g.to(tl.float32), 0)
    own, k = run * tl.num_programs(1) + part, value + tl.arange(0, DEEP)
    at, here = n[:, None] * (KERNEL * KERNEL * C) + k[None, :], (n < N)[:, None] & (k < KERNEL * KERNEL * C)[None, :]
    shares += own * (N * KERNEL * KERNEL * C + N)
    tl.store(shares + at, total, here)
    if tl.program_id(0) == 0:
        tl.store(shares + N * KERNEL * KERNEL * C + n, of_bias, n < N)


@triton.jit(do_not_specialize=["rows"])
def write_pixel_gradients(
    weight, upstream, out, made, rows,
    SIDE: tl.constexpr, PLACES: tl.constexpr, C: tl.constexpr, N: tl.constexpr, KERNEL: tl.constexpr,
    STRIDE: tl.constexpr, PAD: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Program (i, j, r) makes the gradient of ROWS pixels of run r, all channels. j: the remainders of their row and
    column by STRIDE, since pixels with one remainder meet the same weights.

    made: (R, images, SIDE, SIDE, C). rows: the outputs of a run. CHANNELS: C, rounded up to a power of two.
    """
    EACH: tl.constexpr = (SIDE + STRIDE - 1) // STRIDE
    run, n, c = tl.program_id(2).to(tl.int64), tl.arange(0, WIDE), tl.arange(0, CHANNELS)
    below, right = tl.program_id(1) // STRIDE, tl.program_id(1) % STRIDE
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    image, h, w = m // (EACH * EACH), m // EACH % EACH * STRIDE + below, m % EACH * STRIDE + right
    known = (image < rows // (PLACES * PLACES)) & (h < SIDE) & (w < SIDE)
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    for down in range((below + PAD) % STRIDE, KERNEL, STRIDE):
        for across in range((right + PAD) % STRIDE, KERNEL, STRIDE):
            i, j = (h + PAD - down) // STRIDE, (w + PAD - across) // STRIDE
            seen = known & (h + PAD >= down) & (i < PLACES) & (w + PAD >= across) & (j < PLACES)
            at = (run * rows + ((image * PLACES + i) * PLACES + j)[:, None]) * N + n[None, :]
            g = _upstream(upstream, out, at, seen[:, None] & (n < N)[None, :])
            at = (n[:, None] * (KERNEL * KERNEL) + down * KERNEL + across) * C + c[None, :]
            here = (n < N)[:, None] & (c < C)[None, :]
            own = tl.load(weight + run * (N * KERNEL * KERNEL * C) + at, here, 0.0)
            total = product(g, own, total)
    at = ((run * (rows // (PLACES * PLACES)) + image) * SIDE + h) * SIDE + w
    here = known[:, None] & (c < C)[None, :]
    tl.store(made + at[:, None] * C + c[None, :], total.to(made.dtype.element_ty), here)


def convolved(x: Tensor, weight: Tensor, bias: Tensor, sizes: Sizes) -> Tensor:
    """Return ReLU of a convolution, (R, B, places, places, out).

    x: (R or 1, B, side, side, channels); 1 where the runs share the images. weight: (R, out, kernel, kernel, channels).
    bias: (R, out). All are contiguous and of one dtype, float32 or bfloat16.
    """
    runs, places = len(weight), sizes.places
    out = torch.empty((runs, x.shape[1], places, places, sizes.out), dtype=x.dtype, device=x.device)
    rows, tile = x.shape[1] * places * places, _tile(FORWARD, x)
    with on(x.device):
        write_convolved[(triton.cdiv(rows, tile.rows), runs)](
            x, weight, bias, out, between_runs(x), rows,
            **sizes.constants(), ROWS=tile.rows, DEEP=_deep(sizes, tile), num_warps=WARPS, num_stages=tile.stages,
        )  # fmt: skip
    return out


def gradients(
    x: Tensor, weight: Tensor, out: Tensor, upstream: Tensor, sizes: Sizes, of_x: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return the gradients of x, weight and bias of `convolved`; None for x if not ``of_x``.

    out: its result. upstream: the gradient of the result, contiguous.
    """
    runs, rows, values = len(weight), out[0].numel() // sizes.out, weight[0].numel() // sizes.out
    constants, tile = sizes.constants(), _tile(WEIGHTS, x)
    chunks, deep = triton.cdiv(rows, CHUNK), _deep(sizes, tile)
    shares = torch.empty((runs, chunks, sizes.out * (values + 1)), dtype=torch.float32, device=x.device)
    with on(x.device):
        write_weight_gradients[(triton.cdiv(values, deep), chunks, runs)](
            x, upstream, out, shares, between_runs(x), rows, CHUNK,
            **constants, STEP=tile.rows, DEEP=deep, num_warps=WARPS, num_stages=tile.stages,
        )  # fmt: skip
    of_pixels = _pixel_gradients(x, weight, out, upstream, sizes) if of_x else None
    of_weight, of_bias = summed(shares, sizes.out, weight.dtype)
    return of_pixels, of_weight.view_as(weight), of_bias


def _pixel_gradients(x: Tensor, weight: Tensor, out: Tensor, upstream: Tensor, sizes: Sizes) -> Tensor:
    runs, images = x.shape[:2]
    assert runs == len(weight)  # images that the runs share need no gradient
    made, tile, each = torch.empty_like(x), _tile(PIXELS, x), triton.cdiv(sizes.side, sizes.stride)
    with on(x.device):
        write_pixel_gradients[(triton.cdiv(images * each * each, tile.rows), sizes.stride**2, runs)](
            weight, upstream, out, made, out[0].numel() // sizes.out,
            **sizes.constants(), ROWS=tile.rows, CHANNELS=wide(sizes.channels), num_warps=WARPS, num_stages=tile.stages,
        )  # fmt: skip
    return made


def _tile(chosen: Tile, x: Tensor) -> Tile:
    return EXACT if x.dtype == torch.float32 else chosen


def _deep(sizes: Sizes, tile: Tile) -> int:
    """Return how many values of a receptive field to multiply at a time: a power of two."""
    return min(max(16, tile.deep), wide(sizes.kernel**2 * sizes.channels))
