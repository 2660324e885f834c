"""The CPU kernel: numba, a slice of the batch a thread, without the GIL.

Threads are Python's own rather than numba's: its threading layers may not be entered by two callers at once, and two
pipelines are.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import cache, lru_cache

import numpy as np
import torch
from fastcifar.kernels.cpu import dice, pixels
from fastcifar.kernels.reference import check, normalisation, resize_taps
from numpy.typing import NDArray
from torch import Tensor

from fastcifar.augment import IMAGE_SIZE, Augment, Draws
from fastcifar.errors import UsageError
from fastcifar.rng.philox import key_of

_DTYPES = {torch.float32: pixels.FLOAT32, torch.float16: pixels.FLOAT16, torch.bfloat16: pixels.BFLOAT16}
_NAMES = [field.name for field in fields(Draws)]
_FEWEST_A_THREAD = 64  # below this many samples a second thread costs more than it brings


def draw(spec: Augment, seed: int, epoch: int, ids: NDArray[np.int64]) -> Draws:
    """`augment.draw`, compiled: the same bits. ids: (N,) int64 in [0, 2**32)."""
    key_of(seed)
    draws = Draws.empty(len(ids))
    dice.fill(spec.bounds(), np.uint64(seed), epoch, ids, *(getattr(draws, name) for name in _NAMES))
    return draws


def apply(images_BHWC: Tensor, draws: Draws, spec: Augment, out_dtype: torch.dtype = torch.float32) -> Tensor:
    """`reference.apply` for images in host memory, on ``torch.get_num_threads()`` threads.

    The same operations in the same order, so the same bits but for the rare pixel of an image whose mean grey rounds
    the other way: float32 within rounding, float16 and bfloat16 within one unit in the last place.
    Same arguments and errors.
    """
    check(images_BHWC, len(draws), out_dtype)
    return apply_rows(images_BHWC.contiguous(), np.arange(len(draws)), draws, spec, out_dtype)


def apply_rows(
    images_NHWC: Tensor,
    rows: NDArray[np.int64],
    draws: Draws,
    spec: Augment,
    out_dtype: torch.dtype,
    out: Tensor | None = None,
    threads: int | None = None,
) -> Tensor:
    """`apply` to images_NHWC[rows], without a copy of them in between.

    images_NHWC: (N, 32, 32, 3) uint8, contiguous. rows: (B,) int64 in [0, N), raises UsageError when outside.
    draws: of these B samples. out: (B, 3, S, S) out_dtype, channels_last, to be written and returned; else a new one.
    """
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(images_NHWC):
        raise UsageError(f"rows {rows.min()}..{rows.max()} are not all within the {len(images_NHWC)} images")
    size = spec.out_size
    if out is None:
        out = torch.empty((len(rows), 3, size, size), dtype=out_dtype, memory_format=torch.channels_last)
    flat = out.permute(0, 2, 3, 1).reshape(len(rows), size * size * 3)
    if flat.data_ptr() != out.data_ptr():
        raise UsageError("out must be channels_last")
    threads = threads or torch.get_num_threads()
    parts = max(1, min(threads, len(rows) // _FEWEST_A_THREAD))
    edges = [len(rows) * part // parts for part in range(parts + 1)]
    source = images_NHWC.flatten(1).numpy()

    def slice_of(part: int) -> None:
        here = slice(edges[part], edges[part + 1])
        _render(source, rows[here], draws[here], spec, flat[here])

    if parts == 1:
        slice_of(0)
    else:
        waiting = [_pool(os.getpid(), threads).submit(slice_of, part) for part in range(1, parts)]
        slice_of(0)
        for future in waiting:
            future.result()
    return out


def _render(source: NDArray[np.uint8], rows: NDArray[np.int64], draws: Draws, spec: Augment, flat: Tensor) -> None:
    dtype = _DTYPES[flat.dtype]
    values = flat.view(-1) if dtype == pixels.FLOAT32 else flat.view(-1).view(torch.uint16)
    empty = np.empty(0, np.float32 if dtype != pixels.FLOAT32 else np.uint16)
    outs = (values.numpy(), empty) if dtype == pixels.FLOAT32 else (empty, values.numpy())
    arrays = (getattr(draws, name) for name in _NAMES if name != "angle")
    pixels.render(source, rows, *arrays, spec.jitters, spec.rotate > 0, *_constants(spec), *outs, dtype)


@lru_cache(maxsize=64)
def _constants(spec: Augment) -> tuple[NDArray, NDArray, NDArray, NDArray, int]:
    """Mean and 1 / std for each value of an image, the enlargement's taps, and its crop (0: none)."""
    mean, scale = (np.tile(values, IMAGE_SIZE * IMAGE_SIZE) for values in normalisation(spec))
    if spec.size is None:
        return mean, scale, np.zeros(0, np.int64), np.zeros(0, np.float32), 0
    return mean, scale, *resize_taps(*spec.size), spec.size[1]


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """One pool a process (a forked child must not wait for its parent's threads) and number of threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix="fastcifar-cpu")
