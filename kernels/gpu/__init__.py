"""The GPU kernel: Triton, one program for each image. A few launches make a finished batch from sample ids.

The kernels read order, seed and epoch from device memory, so a launch can be captured in a CUDA graph and replayed for
other samples. With TRITON_INTERPRET=1 all of this runs on the CPU, slowly, for tests.
"""

from dataclasses import fields
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import triton
from fastcifar.kernels.gpu import numbers, pixels
from fastcifar.kernels.reference import check_output, normalisation, resize_taps
from numpy.typing import NDArray
from torch import Tensor

from fastcifar.augment import IMAGE_SIZE, JITTER_ORDERS, REFLECTED, ZEROS, Augment, Draws
from fastcifar.rng.cursor import clock_of
from fastcifar.system.devices import on

INTERPRETED = not isinstance(pixels.augment, triton.JITFunction)
"""Whether the kernels run in Triton's interpreter, which takes tensors in host memory."""
WIDE = 256  # values of an output row that a program of one warp writes: 16 bytes of float16 for each thread
PADDINGS = {REFLECTED: pixels.REFLECTED, ZEROS: pixels.ZEROS}
EXACT = {"enable_fp_fusion": False}
"""The compile option that forbids fused multiply-adds, so that the bits are those of the reference."""


class Launch(NamedTuple):
    """A way to launch `pixels.augment`. All ways give the same bits."""

    warps: int
    """The number of warps that share an image."""
    dice: str
    """Where random numbers are drawn. inside: each warp draws all numbers of its image. before: a separate launch
    writes the draws as a table."""


INSIDE, BEFORE = "inside", "before"
CANDIDATES = tuple(Launch(warps, where) for where in (INSIDE, BEFORE) for warps in (2, 4, 8, 16))
"""The ways to launch that `make gpu-check` times on a GPU."""
CHOSEN = Launch(4, BEFORE)
"""The fastest of CANDIDATES in bfloat16 on an H100. In float32 it is within 11 % of the fastest
(bench/results/gpu-check-h100.jsonl)."""


class Tables(NamedTuple):
    """The arrays that the kernels read for a spec, on a device. `pixels.augment` and `pixels.enlarge` describe them."""

    bounds: Tensor
    orders: Tensor
    normal: Tensor
    first: Tensor
    weight: Tensor
    row_starts: Tensor


@cache
def spec_tables(spec: Augment, device: torch.device) -> Tables:
    """Return the tables of a spec on a device.

    They take a few thousand bytes. They are kept as long as the process lives, because captured launches read them.
    """
    first, weight = resize_taps(*spec.size) if spec.size else (np.zeros(1, np.int64), np.zeros(1, np.float32))
    arrays = (
        np.array(spec.bounds(), np.int64),
        JITTER_ORDERS.astype(np.int64),
        np.concatenate(normalisation(spec)),
        first.astype(np.int32),
        weight,
        np.searchsorted(first, np.arange(IMAGE_SIZE)).astype(np.int32),
    )
    return Tables(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))


def render(
    images: Tensor,
    labels: Tensor,
    order: Tensor,
    clock: Tensor,
    spec: Augment,
    out: Tensor,
    out_labels: Tensor,
    out_ids: Tensor,
    given: Tensor | None = None,
    launch: Launch | None = None,
    groups: Tensor | None = None,
) -> None:
    """Write the batch of samples order[clock[2] * B : (clock[2] + 1) * B]. All tensors are on one device.

    images: (N, 32, 32, 3) uint8, contiguous. labels: (N,) int64. order: (M,) int64 ids in [0, N), where M covers the
    batch. clock: a `clock_of`. out: (B, 3, S, S), channels_last, float32, float16 or bfloat16. out_labels, out_ids:
    (B,) int64. given: (B, 20) int32, the `packed` draws to use; by default the kernels draw. launch: by default CHOSEN.

    groups: int64, on the device, the groups of runs to render, each once; the others stay unchanged. Then order, clock,
    out, out_labels and out_ids have a leading dimension of all groups, and the rows of the order are contiguous. The
    launches are as many as for one batch, and the bits are the same.
    """
    known, device = spec_tables(spec, images.device), images.device
    grouped = groups is not None
    batch, batches = len(out) if groups is None else out.shape[1], 1 if groups is None else len(groups)
    if not batch or not batches:
        return
    warps, where = launch or CHOSEN
    rows, stride = (known.orders, 0) if groups is None else (groups, order.stride(0))
    with on(device):
        if given is None and where == BEFORE and spec.random:
            given = _written(order, clock, spec, batch, groups)
        padding = PADDINGS[spec.crop_fill] if spec.crop else pixels.UNPADDED
        small, rectangles = out, known.bounds
        if spec.size:
            small = torch.empty((batches * batch, IMAGE_SIZE * IMAGE_SIZE * 3), dtype=torch.float32, device=device)
            rectangles = torch.empty((batches * batch, 6), dtype=torch.int32, device=device)
        pixels.augment[(batch, batches)](
            images, labels, order, clock, known.bounds, known.orders, known.bounds if given is None else given,
            known.normal, small, rectangles, out_labels, out_ids, batch, rows, stride,
            PADDING=padding, JITTERS=spec.jitters, ROTATES=spec.rotate > 0, ERASES=spec.erase > 0,
            CUTOUT=int(spec.cutout), ENLARGES=spec.size is not None, GIVEN=given is not None, GROUPED=grouped,
            BY_HAND=INTERPRETED, num_warps=warps, **EXACT,
        )  # fmt: skip
        if spec.size:
            crop = spec.size[1]
            pixels.enlarge[(batches * batch, IMAGE_SIZE - 1, triton.cdiv(3 * crop, WIDE))](
                small, rectangles, known.first, known.weight, known.row_starts, out, batch, rows,
                CROP=crop, WIDE=WIDE, ERASES=spec.erase > 0, CUTOUT=int(spec.cutout), GROUPED=grouped,
                BY_HAND=INTERPRETED, num_warps=1, **EXACT,
            )  # fmt: skip


def _written(order: Tensor, clock: Tensor, spec: Augment, batch: int, groups: Tensor | None = None) -> Tensor:
    """Draw the random numbers of a batch on the device. Returns (batch, 20) int32, the table that `render` reads.

    groups: those of `render`; their tables follow each other.
    """
    known, batches = spec_tables(spec, order.device), 1 if groups is None else len(groups)
    table = torch.empty((batches * batch, int(pixels.COLUMNS)), dtype=torch.int32, device=order.device)
    rows, stride = (known.orders, 0) if groups is None else (groups, order.stride(0))
    with on(order.device):
        numbers.write_draws[(triton.cdiv(batch, numbers.SAMPLES), batches)](
            order, clock, known.bounds, known.orders, table, batch, rows, stride,
            SAMPLES=numbers.SAMPLES, GROUPED=groups is not None, **numbers.COMPILE,
        )  # fmt: skip
    return table


def order_keys(ids: Tensor, clock: Tensor) -> Tensor:
    """Return the (N,) int64 sort keys of an epoch's order, in one launch.

    A stable sort of the ids by these keys gives the order of `philox.shuffled`. ids: (N,) int64 in [0, 2**32),
    contiguous. clock: a `clock_of`, on the same device.
    """
    keys, count = torch.empty_like(ids), len(ids)
    if count:
        with on(ids.device):
            numbers.write_keys[(triton.cdiv(count, numbers.SAMPLES),)](
                ids, clock, keys, count, SAMPLES=numbers.SAMPLES, **numbers.COMPILE
            )
    return keys


def draw(spec: Augment, seed: int, epoch: int, ids: NDArray[np.int64], device: torch.device) -> Draws:
    """Draw as `augment.draw` does, on ``device``, with the same bits. ids: (N,) int64 in [0, 2**32)."""
    if not len(ids):
        return Draws.empty(0)
    rows = _written(torch.from_numpy(ids).to(device), clock_of(seed, epoch, device), spec, len(ids))
    return _unpacked(rows.cpu().numpy())


def apply(images_BHWC: Tensor, draws: Draws, spec: Augment, out_dtype: torch.dtype = torch.float32) -> Tensor:
    """Augment as `reference.apply` does, on the images' device. Arguments, errors and bits are the same."""
    check_output(images_BHWC, len(draws), out_dtype)
    batch, device, size = len(draws), images_BHWC.device, spec.out_size
    out = torch.empty((batch, 3, size, size), dtype=out_dtype, device=device, memory_format=torch.channels_last)
    order = torch.arange(batch, device=device)
    render(
        images_BHWC.contiguous(), order, order, clock_of(0, 0, device), spec, out, torch.empty_like(order),
        torch.empty_like(order), packed(draws).to(device),
    )  # fmt: skip
    return out


def packed(draws: Draws) -> Tensor:
    """Return the draws as a table (B, 20) int32.

    Its columns are the fields of Draws in their order. ``order`` takes four columns, and floats are stored as their
    bits.
    """
    columns = []
    for field in fields(Draws):
        values = getattr(draws, field.name)
        values = values.view(np.int32) if values.dtype == np.float32 else values.astype(np.int32)
        columns.append(values.reshape(len(draws), -1))
    return torch.from_numpy(np.concatenate(columns, axis=1))


def _unpacked(rows: NDArray[np.int32]) -> Draws:
    """Return the draws of a table (B, 20) int32 that `packed` made."""
    draws, at = Draws.empty(len(rows)), 0
    for field in fields(Draws):
        target = getattr(draws, field.name)
        width = 4 if field.name == "order" else 1
        values = np.ascontiguousarray(rows[:, at : at + width]).reshape(target.shape)
        target[...] = values.view(np.float32) if target.dtype == np.float32 else values
        at += width
    return draws
