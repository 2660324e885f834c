"""Adam and AdamW of all runs of a stack by Triton: one launch for all weights, after a small one for the runs' numbers.

The formulas are those of torch's fused Adam (Kingma and Ba, 2015; Loshchilov and Hutter, 2019, for AdamW). Learning
rates, step counts and settings are read from device memory, so that the launches can be captured in a CUDA graph.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from fastcifar.kernels.gpu import pixels
from torch import Tensor

from fastcifar.system.devices import on

BLOCK = 1024  # values for one program of four warps
BITS = tl.constexpr(24)  # of a step count: float32 holds integers below 2**24
ACTIVE, L2, DECAY, SIZE, ROOT, RATE = (tl.constexpr(n) for n in range(6))
COLUMNS = tl.constexpr(6)
COMPILE = {"num_warps": 4, "enable_fp_fusion": False}


class Setting(NamedTuple):
    """What distinguishes the optimizer of a run."""

    active: bool
    """Whether the run is stepped. The values of other runs are neither read nor written."""
    l2: float
    """The factor of a weight that is added to its gradient (Adam's weight decay)."""
    decay: float
    """The factor, times the learning rate, by which a weight shrinks (AdamW's weight decay)."""


class Settings(NamedTuple):
    """The numbers of each run, on the device."""

    rows: Tensor
    """(R, COLUMNS) float32: active (0 or 1), l2, decay, and what `advance` writes: the step's size, which is the
    learning rate divided by the first bias correction; the root of the second bias correction; the learning rate."""
    cursor: Tensor
    """(R,) int64: the step within the epoch, from 0."""
    betas: Tensor
    """(2,) float64."""


def settings(runs: Sequence[Setting], betas: tuple[float, float], device: torch.device) -> Settings:
    """Return the numbers of runs on a device."""
    rows = torch.tensor([[float(run.active), run.l2, run.decay, 0.0, 1.0, 0.0] for run in runs], dtype=torch.float32)
    cursor = torch.zeros(len(runs), dtype=torch.int64, device=device)
    # the kernel computes with float32 values, and the bias corrections must be those of the same values
    return Settings(rows.to(device), cursor, torch.tensor(betas, dtype=torch.float32).double().to(device))


def pieces(blocks: Sequence[tuple[int, int]], runs: int, device: torch.device) -> Tensor:
    """Return the programs of `step`, (N, 3) int64: first value, number of values (at most BLOCK) and run.

    blocks: for each parameter its first value in the buffer and its values of one run; the runs follow each other.
    """
    parts = []
    for start, values in blocks:
        first = torch.arange(0, values, BLOCK)
        count = (values - first).clamp(max=BLOCK)
        parts += [
            torch.stack([start + run * values + first, count, torch.full_like(first, run)], 1) for run in range(runs)
        ]
    return torch.cat(parts).to(device)


@triton.jit(do_not_specialize=["runs", "parameters", "steps_of_epoch"])
def write_numbers(
    steps, rates, rows, cursor, betas, runs, parameters, steps_of_epoch, PARAMETERS: tl.constexpr
):  # fmt: skip
    """Program r counts a step of run r, and writes the numbers of this step to its row.

    steps: (parameters, runs) float32, the step counts, equal for all parameters of a run. rates: (runs,
    steps_of_epoch) float32, the learning rates. rows, cursor, betas: see Settings. PARAMETERS: parameters, rounded up
    to a power of two.
    """
    run = tl.program_id(0)
    row = rows + run * COLUMNS
    if tl.load(row + ACTIVE) != 0.0:
        k = tl.arange(0, PARAMETERS)
        counts = steps + k * runs + run
        count = tl.load(counts, k < parameters, 0.0) + 1.0
        tl.store(counts, count, k < parameters)
        number = tl.max(count, 0).to(tl.int32)
        first, second = tl.load(betas), tl.load(betas + 1)
        one = first * 0.0 + 1.0
        power_1, power_2 = one, one
        for bit in range(BITS):  # powers by squaring, exact to the rounding of float64
            odd = ((number >> bit) & 1) == 1
            power_1, power_2 = tl.where(odd, power_1 * first, power_1), tl.where(odd, power_2 * second, power_2)
            first, second = first * first, second * second
        at = tl.load(cursor + run)
        tl.store(cursor + run, at + 1)
        rate = tl.load(rates + run * steps_of_epoch + at % steps_of_epoch)  # steps beyond the epoch begin it again
        tl.store(row + SIZE, tl.math.div_rn(rate, (one - power_1).to(tl.float32)))
        tl.store(row + ROOT, tl.math.sqrt_rn((one - power_2).to(tl.float32)))
        tl.store(row + RATE, rate)


@triton.jit
def _step_piece(
    weights, low, full, first, second, copy, row, start, count, boundary,
    BETA_1: tl.constexpr, REST_1: tl.constexpr, BETA_2: tl.constexpr, REST_2: tl.constexpr, EPS: tl.constexpr,
    BLOCK: tl.constexpr, BY_HAND: tl.constexpr,
):  # fmt: skip
    """Step the values [start, start + count) of a run. row: the run's numbers; the rest is that of `write_step`."""
    l2, decay, rate = tl.load(row + L2), tl.load(row + DECAY), tl.load(row + RATE)
    size, root = tl.load(row + SIZE), tl.load(row + ROOT)
    k = tl.arange(0, BLOCK)
    here, at = k < count, start + k
    if start < boundary:
        g = tl.load(low + at, here, 0.0).to(tl.float32)
    else:
        g = tl.load(full + (at - boundary), here, 0.0).to(tl.float32)
    w = tl.load(weights + at, here, 0.0)
    g += l2 * w
    w -= rate * decay * w
    m, v = tl.load(first + at, here, 0.0), tl.load(second + at, here, 0.0)
    square = g * g
    m = tl.fma(m, BETA_1, g * REST_1)
    v = tl.fma(v, BETA_2, square * REST_2)
    w -= tl.math.div_rn(size * m, tl.math.div_rn(tl.math.sqrt_rn(v), root) + EPS)
    tl.store(weights + at, w, here)
    tl.store(first + at, m, here)
    tl.store(second + at, v, here)
    if start < boundary:
        tl.store(copy + at, pixels.cast(w, copy.dtype.element_ty, BY_HAND), here)


@triton.jit
def write_step(
    weights, low, full, first, second, copy, pieces, rows, boundary,
    BETA_1: tl.constexpr, REST_1: tl.constexpr, BETA_2: tl.constexpr, REST_2: tl.constexpr, EPS: tl.constexpr,
    BLOCK: tl.constexpr, BY_HAND: tl.constexpr,
):  # fmt: skip
    """Program i steps the values of piece i: the weights and both moments, float32.

    low, full: the gradients of the values below ``boundary`` and of the others. copy: the new weights below
    ``boundary`` are also written here, in its dtype. boundary: a multiple of 16. pieces: see `pieces`. rows: see
    Settings. REST_1, REST_2: 1 - BETA_1 and 1 - BETA_2. BY_HAND: see `pixels.cast`.
    """
    piece = pieces + tl.program_id(0) * 3
    start, count, run = tl.load(piece), tl.load(piece + 1), tl.load(piece + 2)
    row = rows + run * COLUMNS
    if tl.load(row + ACTIVE) != 0.0:
        # what the compiler can see to be a multiple of four is read and written in vectors of four
        if (start | count) & 3 == 0:
            _step_piece(
                weights, low, full, first, second, copy, row, (start >> 2) * 4, (count >> 2) * 4, boundary,
                BETA_1, REST_1, BETA_2, REST_2, EPS, BLOCK, BY_HAND,
            )  # fmt: skip
        else:
            _step_piece(
                weights, low, full, first, second, copy, row, start, count, boundary,
                BETA_1, REST_1, BETA_2, REST_2, EPS, BLOCK, BY_HAND,
            )  # fmt: skip


def advance(steps: Tensor, rates: Tensor, runs: Settings) -> None:
    """Count a step of each active run, and compute its learning rate and its bias corrections, in one launch.

    steps: (K, R) float32 step counts. rates: (R, S) float32, the learning rates of an epoch's S steps.
    """
    parameters, count = steps.shape
    with on(steps.device):
        write_numbers[(count,)](
            steps, rates, runs.rows, runs.cursor, runs.betas, count, parameters, rates.shape[1],
            PARAMETERS=triton.next_power_of_2(parameters), num_warps=1, enable_fp_fusion=False,
        )  # fmt: skip


def step(
    weights: Tensor,
    gradients: tuple[Tensor, Tensor],
    moments: tuple[Tensor, Tensor],
    copy: Tensor,
    pieces: Tensor,
    runs: Settings,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Step the weights of all active runs, in one launch, with the numbers of `advance`.

    weights, moments: flat buffers of one layout, float32. gradients: those of the buffer's first values, in any
    floating-point dtype, and those of the others. copy: as long as the first gradients, in any floating-point dtype;
    the buffer's first values are also written there. pieces: see `pieces`. eps: Adam's epsilon, >= 0.
    """
    low, full = gradients
    first, second = (float(np.float32(beta)) for beta in betas)  # so that 1 - beta is a float32, too
    with on(weights.device):
        write_step[(len(pieces),)](
            weights, low, full, *moments, copy, pieces, runs.rows, len(low),
            BETA_1=first, REST_1=1 - first, BETA_2=second, REST_2=1 - second, EPS=eps, BLOCK=BLOCK,
            BY_HAND=not isinstance(write_step, triton.JITFunction), **COMPILE,
        )  # fmt: skip
