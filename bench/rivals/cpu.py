"""The contestants among CPU kernels: fastcifar's, torchvision's operations sample by sample, and a plain numba loop."""

import numpy as np
import torch
from fastcifar.kernels import cpu, reference, torchvision

from bench.rivals.plain import apply_numba_pixels
from bench.rivals.rival import Rival
from fastcifar.recipes import RECIPES

BASE = "torchvision, 1 thread"
TORCHVISION_IMAGES = 64  # images it handles: it is slow, and its speed does not depend on the batch
CALLS = 8  # batches of ours a repeat, of different images, so that results go to memory and not to the cache


def rivals(recipe: str, batch: int, dtype: torch.dtype) -> dict[str, Rival]:
    """Return the contestants by name. The plain loop takes part only in float32, at 32 x 32 pixels, with colours."""
    spec = RECIPES[recipe]
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (CALLS * batch, 32, 32, 3), np.uint8))
    draws = cpu.draw(spec, 0, 0, np.arange(len(images)))
    size = spec.out_size
    outs = [torch.empty((batch, 3, size, size), dtype=dtype, memory_format=torch.channels_last) for _ in range(CALLS)]
    parts = [np.arange(k * batch, (k + 1) * batch) for k in range(CALLS)]
    few = draws[:TORCHVISION_IMAGES]

    def ours() -> torch.Tensor:
        for rows_, out in zip(parts, outs, strict=True):
            # drawing the random numbers is part of the work
            cpu.apply_rows(images, rows_, cpu.draw(spec, 0, 0, rows_), spec, dtype, out)
        return outs[-1]

    def torchvision_one_thread() -> torch.Tensor:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        result = torchvision.apply(images[:TORCHVISION_IMAGES], few, spec, dtype)
        torch.set_num_threads(threads)
        return result

    std = min(spec.std)
    contestants = {
        "cpu": Rival(len(images), ours, reference.apply(images[-batch:], draws[-batch:], spec, dtype), std),
        BASE: Rival(len(few), torchvision_one_thread, reference.apply(images[: len(few)], few, spec, dtype), std),
    }
    if spec.size is None and spec.jitters and not (spec.crop or spec.cutout) and dtype == torch.float32:
        plain_out = np.empty((batch, 32, 32, 3), np.float32)

        def plain() -> torch.Tensor:
            apply_numba_pixels(images[:batch].numpy(), cpu.draw(spec, 0, 0, parts[0]), plain_out)
            return torch.from_numpy(plain_out).permute(0, 3, 1, 2)

        expected = reference.apply(images[:batch], draws[:batch], spec, dtype)
        contestants["plain numba"] = Rival(batch, plain, expected, std)
    return contestants
