"""Time the kernels: each recipe by fastcifar's kernel and by other implementations, on a CPU or a GPU.

    python bench/kernels.py --out rows.jsonl
    python bench/kernels.py --device cuda --quick

The contestants are in rivals/cpu.py and rivals/gpu.py. Every contestant that does the same work is compared with the
reference in this run, before it is timed. On a CPU, the ceiling is the measured bandwidth of writing memory (memset);
the share says how much of this bandwidth a contestant's results use. On a GPU, the ceiling is the measured bandwidth of
copying memory; an image moves its 3,072 bytes and its result. GPU work that launches the same kernels each time is
recorded as a CUDA graph and replayed, so that Python's launch overhead is not timed.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.lib import rows
from bench.lib.device import DeviceBandwidth, bandwidth
from bench.rivals import cpu
from bench.rivals.rival import absent, race
from fastcifar.augment import IMAGE_SIZE
from fastcifar.recipes import RECIPES
from fastcifar.show.text import parts
from fastcifar.system.measure import environment, memory_bandwidth

SOURCE_BYTES = 3 * IMAGE_SIZE**2  # bytes read for an image
QUICK_RECIPES, QUICK_REPEATS = "none,erasing,imagenet256", 5
OURS = ("cpu", "gpu")
BASE = ("torchvision, 1 thread", "torchvision batch")  # the contestants that speeds are compared with


def result_bytes(recipe: str, dtype: torch.dtype) -> int:
    """Return the bytes of one image's result."""
    return 3 * RECIPES[recipe].out_size ** 2 * dtype.itemsize


@dataclass(frozen=True)
class OnCpu:
    """Contests on the CPU with all of torch's threads. The ceiling is the write bandwidth of memory, bytes a second."""

    write_bandwidth: float

    def batch(self, recipe: str) -> int:
        return 512

    def rows(self, recipe: str, dtype: torch.dtype, batch: int, repeats: int) -> list[dict[str, Any]]:
        timed = race(cpu.rivals(recipe, batch, dtype), repeats, torch.device("cpu"))
        share = result_bytes(recipe, dtype) / self.write_bandwidth
        return [
            row
            | {
                "threads": 1 if "1 thread" in row["kernel"] else torch.get_num_threads(),
                "write_bandwidth": self.write_bandwidth,
                "write_share": row["images_per_s"] and row["images_per_s"] * share,
            }
            for row in timed
        ]


@dataclass(frozen=True)
class OnGpu:
    """Contests on a GPU. The ceiling is the bandwidth of copying its memory."""

    device: torch.device
    bandwidth: DeviceBandwidth

    def batch(self, recipe: str) -> int:
        from bench.rivals.gpu import BATCHES  # needs Triton

        return BATCHES[RECIPES[recipe].out_size]

    def rows(
        self, recipe: str, dtype: torch.dtype, batch: int, repeats: int, names: Sequence[str] = (), **how: Any
    ) -> list[dict[str, Any]]:
        """A row for each contestant.

        names: the contestants that take part, all where it is empty. how: further arguments of
        `rivals.gpu.rivals`.
        """
        from bench.rivals.gpu import rivals

        entered, left_out = rivals(recipe, batch, dtype, self.device, **how)
        if names:
            entered, left_out = ({name: one[name] for name in names if name in one} for one in (entered, left_out))
        timed = race(entered, repeats, self.device)
        timed += [{"kernel": name, **absent(reason)} for name, reason in left_out.items()]
        moved = SOURCE_BYTES + result_bytes(recipe, dtype)
        return [
            row
            | {
                "copy_bandwidth": self.bandwidth.copy,
                "fill_bandwidth": self.bandwidth.fill,
                "bytes_per_image": moved,
                "ceiling_images_per_s": self.bandwidth.copy / moved,
                "ceiling_share": row["images_per_s"] and row["images_per_s"] * moved / self.bandwidth.copy,
            }
            for row in timed
        ]


def collect_rows(contests: OnCpu | OnGpu, recipes: list[str], batch: int | None, repeats: int, out: Path) -> list[Any]:
    """Return the rows of the recipes in both dtypes. The file is written after each contest, for interrupted runs."""
    around, collected = environment(), []
    for recipe in recipes:
        for dtype in (torch.float32, torch.bfloat16):
            size = batch or contests.batch(recipe)
            common = {
                "recipe": recipe,
                "device": "cpu" if isinstance(contests, OnCpu) else contests.device.type,
                "dtype": str(dtype).removeprefix("torch."),
                "batch_size": size,
            }
            found = contests.rows(recipe, dtype, size, repeats)
            collected += [common | row | {"environment": around} for row in found]
            rows.write(collected, out)
    return collected


def shown(collected: list[dict[str, Any]]) -> Table:
    """Return the rows as a table for the terminal."""
    table = Table(
        *("recipe", "dtype", "kernel", "images/s", "least", "most", "x torchvision", "of ceiling", "dev", "remark")
    )
    base = {(row["recipe"], row["dtype"]): row["images_per_s"] for row in collected if row["kernel"] in BASE}
    for row in collected:
        cells, against = [""] * 5, base[row["recipe"], row["dtype"]]
        if row["images_per_s"]:
            cells = [f"{row[key]:,.0f}" for key in ("images_per_s", "images_per_s_min", "images_per_s_max")]
            share = row["write_share"] if "write_share" in row else row["ceiling_share"]
            cells += [f"{row['images_per_s'] / against:.1f}" if against else "", f"{100 * share:.1f} %"]
        deviation = "" if row["max_abs_dev"] is None else f"{row['max_abs_dev']:.2g}"
        table.add_row(row["recipe"], row["dtype"], row["kernel"], *cells, deviation, escape(row["reason"] or ""))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help=f"only {QUICK_RECIPES}, {QUICK_REPEATS} repeats")
    parser.add_argument("--recipes", help="comma-separated; by default all")
    parser.add_argument("--batch", type=int, help="by default 512; on a GPU by recipe, larger than its cache")
    parser.add_argument("--repeats", type=int, help="timed turns of each; by default 15")
    parser.add_argument("--out", type=Path, help="by default bench/results/kernels-DEVICE.jsonl")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device")
    out = options.out or rows.RESULTS / f"kernels-{options.device}.jsonl"
    recipes = parts(options.recipes or (QUICK_RECIPES if options.quick else ",".join(RECIPES)))
    repeats = options.repeats or (QUICK_REPEATS if options.quick else 15)

    contests: OnCpu | OnGpu
    if options.device == "cpu":
        contests = OnCpu(memory_bandwidth().write)
        print(f"memory takes {contests.write_bandwidth / 1e9:.1f} GB/s of writes")
    else:
        device = torch.device("cuda")
        contests = OnGpu(device, bandwidth(device))
        moved = (each / 1e12 for each in contests.bandwidth)
        print("{}: copies move {:.2f} TB/s, fills {:.2f}".format(torch.cuda.get_device_name(device), *moved))
    collected = collect_rows(contests, recipes, options.batch, repeats, out)
    Console(width=180).print(shown(collected))
    print(f"rows in {out}")
    wrong = [row for row in collected if row["kernel"] in OURS and not row["verified"]]
    if wrong:
        sys.exit(f"fastcifar's kernel is wrong: {wrong[0]['recipe']}, {wrong[0]['dtype']}: {wrong[0]['reason']}")


if __name__ == "__main__":
    main()
