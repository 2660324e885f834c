"""The CPU kernel: numba without the GIL. Each thread makes a slice of the batch.

The threads are Python's, not numba's: two callers must not enter numba's threading layers at once, and two pipelines
would.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import cache, lru_cache

import numpy as np
import torch
from fastcifar.kernels.cpu import dice, enlarge, pixels
from fastcifar.kernels.reference import check_output, normalisation
from numpy.typing import NDArray
from torch import Tensor

from fastcifar.augment import IMAGE_SIZE, REFLECTED, ZEROS, Augment, Draws
from fastcifar.errors import UsageError
from fastcifar.rng.philox import key_of
from fastcifar.system.machine import last_cache

_DTYPES = {torch.float32: enlarge.FLOAT32, torch.float16: enlarge.FLOAT16, torch.bfloat16: enlarge.BFLOAT16}
_PADDINGS = {REFLECTED: pixels.REFLECTED, ZEROS: pixels.ZEROS}
_NAMES = [field.name for field in fields(Draws)]
_FEWEST_A_THREAD = 64 * IMAGE_SIZE**2  # below this many pixels a second thread costs more than it brings


def draw(spec: Augment, seed: int, epoch: int, ids: NDArray[np.int64]) -> Draws:
    """Draw as `augment.draw` does, in compiled code, with the same bits. ids: (N,) int64 in [0, 2**32).

    Raises UsageError for a seed outside [0, 2**64).
    """
    key_of(seed)
    draws = Draws.empty(len(ids))
    dice.fill(spec.bounds(), np.uint64(seed), epoch, ids, *(getattr(draws, name) for name in _NAMES))
    return draws


def apply(images_BHWC: Tensor, draws: Draws, spec: Augment, out_dtype: torch.dtype = torch.float32) -> Tensor:
    """Augment as `reference.apply` does, for images in host memory, on ``torch.get_num_threads()`` threads.

    Arguments and errors are the same. The operations and their order are the same, so the bits are, too. The only
    exceptions are rare images whose mean grey rounds the other way. There float32 pixels are equal to rounding, and
    float16 and bfloat16 pixels differ by at most one unit in the last place.
    """
    check_output(images_BHWC, len(draws), out_dtype)
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
    """Augment images_NHWC[rows] as `apply` does, without copying these images first.

    images_NHWC: (N, 32, 32, 3) uint8, contiguous. rows: (B,) int64 in [0, N). draws: the draws of these B samples.
    out: (B, 3, S, S) out_dtype, channels_last, which is written and returned; by default a new tensor. threads: by
    default torch.get_num_threads(). Raises UsageError for a row outside the range or an ``out`` of other memory format.
    """
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(images_NHWC):
        raise UsageError(
            f"rows {rows.min()}..{rows.max()} are not all within the {len(images_NHWC)} images; choose rows of these"
        )
    size = spec.out_size
    if out is None:
        out = torch.empty((len(rows), 3, size, size), dtype=out_dtype, memory_format=torch.channels_last)
    flat = out.permute(0, 2, 3, 1).reshape(len(rows), size * size * 3)
    if flat.data_ptr() != out.data_ptr():
        raise UsageError("out is not channels_last; make it with memory_format=torch.channels_last")
    threads = threads or torch.get_num_threads()
    parts = max(1, min(threads, len(rows), len(rows) * size**2 // _FEWEST_A_THREAD))
    edges = [len(rows) * part // parts for part in range(parts + 1)]
    source, streams = images_NHWC.flatten(1).numpy(), _streams(spec, flat)

    def slice_of(part: int) -> None:
        here = slice(edges[part], edges[part + 1])
        _render(source, rows[here], draws[here], spec, flat[here], streams)

    if parts == 1:
        slice_of(0)
    else:
        waiting = [_pool(os.getpid(), threads).submit(slice_of, part) for part in range(1, parts)]
        slice_of(0)
        for future in waiting:
            future.result()
    return out


def _render(
    source: NDArray[np.uint8], rows: NDArray[np.int64], draws: Draws, spec: Augment, flat: Tensor, streams: bool
) -> None:
    dtype = _DTYPES[flat.dtype]
    values = flat.view(-1) if dtype == enlarge.FLOAT32 else flat.view(-1).view(torch.uint16)
    empty = np.empty(0, np.float32 if dtype != enlarge.FLOAT32 else np.uint16)
    outs = (values.numpy(), empty) if dtype == enlarge.FLOAT32 else (empty, values.numpy())
    arrays = (getattr(draws, name) for name in _NAMES if name != "angle")
    padding = _PADDINGS[spec.crop_fill] if spec.crop else pixels.UNPADDED
    options = spec.jitters, spec.rotate > 0, padding, int(spec.cutout)
    pixels.render(source, rows, *arrays, *options, *_constants(spec), *outs, dtype, streams)


@lru_cache(maxsize=64)
def _constants(spec: Augment) -> tuple[NDArray, ...]:
    """Return the arrays of a spec for `pixels.render`: mean and 1 / std of each value of an image, and its `Taps`."""
    mean, scale = (np.tile(values, IMAGE_SIZE * IMAGE_SIZE) for values in normalisation(spec))
    return mean, scale, *enlarge.taps(spec.size)


def _streams(spec: Augment, flat: Tensor) -> bool:
    """Return whether an enlarged batch is written past the caches. flat: (B, S * S * 3), the whole batch.

    What takes the batch next finds a smaller batch in the last cache. The beginning of a larger one has left this cache
    before the end is written, so writing through the cache only costs reading each line first.
    """
    row = 3 * spec.out_size * flat.element_size()
    aligned = flat.data_ptr() % enlarge.LINE == 0 == row % enlarge.LINE
    return spec.size is not None and aligned and flat.numel() * flat.element_size() > last_cache()


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return the thread pool of a process and a number of threads.

    The process is part of the cache's key because a forked child does not have its parent's threads.
    """
    return ThreadPoolExecutor(threads, thread_name_prefix="fastcifar-cpu")
