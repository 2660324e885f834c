"""Time an epoch of experiment 2 (basic recipe, batch 128): fastcifar against a plain PyTorch loop over PNG files.

    python bench/training.py --data data/cifar10

Both loops train the same network on the same images in this run, in turns. On CUDA, fastcifar runs in each mode of
--compile. With --packs, many runs of each small network train at a time; see bench/packs.py. Without --data, the images
are synthetic.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from rich.console import Console
from rich.table import Table

from bench import packs
from bench.lib import rows
from bench.rivals.plain import PlainLoop, write_pngs
from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.runs.plan import headline_runs, precision_of
from fastcifar.show.text import parts
from fastcifar.system import machine
from fastcifar.system.devices import device_of
from fastcifar.system.measure import alternate, environment
from fastcifar.system.scratch import Scratch
from fastcifar.training.batches import open_pipelines
from fastcifar.training.compile import steps_of
from fastcifar.training.learner import Learner
from fastcifar.training.modes import MODES


class FastLoop:
    """fastcifar's training loop, as `fastcifar train --compile MODE` runs it, without validation."""

    def __init__(self, dataset: Dataset, device: torch.device, mode: str) -> None:
        spec = headline_runs(2, dataset, seeds=[0], precision=precision_of("auto", device))[0]
        self.learner = Learner.new(spec, len(dataset.classes), device)
        self.training, validation = open_pipelines(spec, dataset, device)
        validation.close()
        started = time.perf_counter()
        self._steps = steps_of(mode, self.learner, self.training)
        self.record_seconds = time.perf_counter() - started
        self.stalls: list[float] = []

    def epoch(self) -> None:
        """Train on every image once."""
        trained = self._steps.epoch(self.learner.epoch + 1)
        self.learner.epoch += 1
        self.stalls.append(trained.waited / trained.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", default=f"0,{machine.usable_cores()}", help="workers of the plain loops")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--packs", action="store_true", help="time packs of each small network instead")
    parser.add_argument("--runs", type=int, default=12, help="runs of a pack")
    parser.add_argument("--out", type=Path, help="default: training-DEVICE or packs-DEVICE.jsonl in bench/results")
    options = parser.parse_args()
    device = device_of(options.device)
    modes = MODES if device.type == "cuda" else ("none",)
    workers = [int(number) for number in parts(options.workers)]
    with Scratch() as scratch:
        folder = Path(scratch)
        dataset = Dataset.open(options.data) if options.data else convert("synthetic:50000", folder / "dataset")
        out = options.out or rows.RESULTS / f"{'packs' if options.packs else 'training'}-{device.type}.jsonl"
        if options.packs:
            packs.write_packs(dataset, device, options.repeats, workers, out, options.runs)
            return
        images = len(dataset.ids("training"))
        write_pngs(dataset, folder / "png", images if workers else 0)
        fast = {f"fastcifar, {mode}": FastLoop(dataset, device, mode) for mode in modes}
        recipe = next(iter(fast.values())).training.request.augment
        plain = {f"plain, {n} workers": PlainLoop(folder / "png", recipe, n, device=device) for n in workers}
        timings = alternate(
            {name: loop.epoch for name, loop in (fast | plain).items()}, options.repeats, device=str(device)
        )
        for loop in fast.values():
            loop.training.close()
    collected = [
        {
            "bench": "training",
            "loop": name,
            "recipe": "basic",
            "device": str(device),
            "dtype": fast[name].learner.spec.precision if name in fast else "float32",
            "batch_size": 128,
            "threads": torch.get_num_threads(),
            "images": images,
            "seconds": timing.median,
            **rows.rates(timing, images),
            "stall": statistics.median(fast[name].stalls) if name in fast else None,
            "record_seconds": fast[name].record_seconds if name in fast else None,
        }
        for name, timing in timings.items()
    ]
    around = environment()
    rows.write(({**row, "environment": around} for row in collected), out)
    best = min(timings[name].median for name in fast)
    table = Table("loop", "seconds an epoch", "images/s", "least", "most", "fastcifar is faster by", "stall")
    for row, timing in zip(collected, timings.values(), strict=True):
        rate = [f"{row[key]:,.0f}" for key in ("images_per_s", "images_per_s_min", "images_per_s_max")]
        stall = "" if row["stall"] is None else f"{100 * row['stall']:.2f} %"
        table.add_row(row["loop"], f"{timing.median:.3f}", *rate, f"{timing.median / best:.1f}", stall)
    Console(width=120).print(table)
    print(f"rows in {out}")


if __name__ == "__main__":
    main()
