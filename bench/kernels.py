"""Kernels: each recipe by fastcifar's kernel, by torchvision sample by sample, by a plain numba loop.

    python bench/kernels.py --out rows.jsonl

Every contestant's pixels are compared with the reference's in this run before it is timed. The ceiling is the measured
bandwidth of writing memory (memset): the share says how much of it a contestant's results use.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from fastcifar.kernels import cpu, reference
from fastcifar.kernels import torchvision as per_sample
from rich.console import Console
from rich.table import Table

from bench import rows
from bench.plain import apply_numba_pixels
from fastcifar.augment import RECIPES, Draws
from fastcifar.measure import alternate, environment, memory_bandwidth

TORCHVISION_IMAGES = 64  # of the batch: it is slow, and its speed does not depend on the batch
CALLS = 8  # of ours a repeat, over different images, so that results are written to memory and not to cache


def contestants(recipe: str, batch: int, dtype: torch.dtype) -> dict[str, tuple[int, Callable[[], torch.Tensor], Any]]:
    """Of each name: the images a call handles, the call (which returns its last result), the expected result."""
    spec = RECIPES[recipe]
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (CALLS * batch, 32, 32, 3), np.uint8))
    draws = cpu.draw(spec, 0, 0, np.arange(len(images)))
    size = spec.out_size
    outs = [torch.empty((batch, 3, size, size), dtype=dtype, memory_format=torch.channels_last) for _ in range(CALLS)]
    parts = [np.arange(k * batch, (k + 1) * batch) for k in range(CALLS)]

    def ours() -> torch.Tensor:
        for rows_, out in zip(parts, outs, strict=True):
            # the dice are part of the work
            cpu.apply_rows(images, rows_, cpu.draw(spec, 0, 0, rows_), spec, dtype, out)
        return outs[-1]

    def torchvision_one_thread() -> torch.Tensor:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        result = per_sample.apply(images[:TORCHVISION_IMAGES], few, spec, dtype)
        torch.set_num_threads(threads)
        return result

    few: Draws = draws[:TORCHVISION_IMAGES]
    found: dict[str, tuple[int, Callable[[], torch.Tensor], Any]] = {
        "cpu": (len(images), ours, reference.apply(images[-batch:], draws[-batch:], spec, dtype)),
        "torchvision, 1 thread": (
            TORCHVISION_IMAGES,
            torchvision_one_thread,
            reference.apply(images[:TORCHVISION_IMAGES], few, spec, dtype),
        ),
    }
    if spec.size is None and spec.jitters and dtype == torch.float32:
        plain_out = np.empty((batch, 32, 32, 3), np.float32)

        def plain() -> torch.Tensor:
            apply_numba_pixels(images[:batch].numpy(), cpu.draw(spec, 0, 0, parts[0]), plain_out)
            return torch.from_numpy(plain_out).permute(0, 3, 1, 2)

        found["plain numba"] = (batch, plain, reference.apply(images[:batch], draws[:batch], spec, dtype))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "kernels-cpu.jsonl")
    asked = parser.parse_args()

    bandwidth = memory_bandwidth().write
    collected = []
    table = Table(
        "recipe", "dtype", "kernel", "images/s", "least", "most", "x torchvision", "of write bandwidth", "dev"
    )
    for recipe in asked.recipes.split(","):
        for dtype in (torch.float32, torch.bfloat16):
            entered = contestants(recipe, asked.batch, dtype)
            # torchvision and the plain loop compute coordinates in floats of their own: a few pixels of a tie differ
            deviations = {n: (call().float() - want.float()).abs() for n, (_, call, want) in entered.items()}
            timings = alternate({name: call for name, (_, call, _) in entered.items()}, asked.repeats, warmup=2)
            base = entered["torchvision, 1 thread"][0] / timings["torchvision, 1 thread"].median
            for name, (count, _, _) in entered.items():
                out_bytes = 3 * RECIPES[recipe].out_size ** 2 * dtype.itemsize
                row = {
                    "kernel": name,
                    "recipe": recipe,
                    "device": "cpu",
                    "dtype": str(dtype).removeprefix("torch."),
                    "batch_size": asked.batch,
                    "threads": 1 if "1 thread" in name else torch.get_num_threads(),
                    **rows.rates(timings[name], count),
                    "max_abs_dev": float(deviations[name].max()),
                    "pixels_apart": int((deviations[name].amax(1) > 0.02).sum()),
                    "verified": bool((deviations[name] > 0.02).float().mean() < 1e-5),
                    "write_bandwidth": bandwidth,
                }
                row["write_share"] = row["images_per_s"] * out_bytes / bandwidth
                collected.append(row)
                table.add_row(
                    *(recipe, row["dtype"], name),
                    *(f"{row[key]:,.0f}" for key in ("images_per_s", "images_per_s_min", "images_per_s_max")),
                    f"{row['images_per_s'] / base:.1f}",
                    f"{100 * row['write_share']:.1f} %",
                    f"{row['max_abs_dev']:.2g}",
                )
    around = environment()
    rows.write(({**row, "environment": around} for row in collected), asked.out)
    Console(width=150).print(table)
    print(f"memory takes {bandwidth / 1e9:.1f} GB/s of writes; rows in {asked.out}")


if __name__ == "__main__":
    main()
