"""An epoch of experiment 2 (basic recipe, batch 128): fastcifar against a plain PyTorch loop over PNG files.

    python bench/training.py --data data/cifar10

Both train the same network on the same images in this run, in turns. Without --data: on synthetic images.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from rich.console import Console
from rich.table import Table

from bench import rows
from bench.plain import PlainLoop, write_pngs
from fastcifar import session
from fastcifar.convert import convert
from fastcifar.dataset import Dataset
from fastcifar.learner import Learner
from fastcifar.measure import alternate, environment
from fastcifar.train import Stopwatch, open_pipelines


class FastLoop:
    """fastcifar's own loop, as `fastcifar train` runs it, without validation."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        spec = session.plan(2, dataset, seeds=[0], precision=session.precision_of("auto", device))[0]
        self.learner = Learner.new(spec, len(dataset.classes), device)
        self.training, validation = open_pipelines(spec, dataset, device)
        validation.close()
        self.waited, self.seconds = 0.0, 0.0

    def epoch(self) -> None:
        """Train on every image once."""
        stopwatch = Stopwatch()
        losses = [self.learner.step(batch) for batch in stopwatch.over(self.training.epoch(self.learner.epoch + 1))]
        float(torch.stack(losses).mean())  # waits for the device, as the loop does once an epoch
        self.learner.epoch += 1
        self.waited += stopwatch.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "training-cpu.jsonl")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dataset = Dataset.open(asked.data) if asked.data else convert("synthetic:50000", folder / "dataset")
        images = len(dataset.ids("training"))
        write_pngs(dataset, folder / "png", images)
        fast = FastLoop(dataset, torch.device("cpu"))
        recipe = fast.training.request.augment
        loops = {"fastcifar": fast} | {
            f"plain, {workers} workers": PlainLoop(folder / "png", recipe, workers) for workers in (0, 2)
        }
        timings = alternate({name: loop.epoch for name, loop in loops.items()}, asked.repeats)
        fast.training.close()
    stall = fast.waited / (asked.repeats + 1) / timings["fastcifar"].median
    collected = [
        {
            "bench": "training",
            "loop": name,
            "recipe": "basic",
            "device": "cpu",
            "dtype": fast.learner.spec.precision if name == "fastcifar" else "float32",
            "batch_size": 128,
            "threads": torch.get_num_threads(),
            "images": images,
            "seconds": timing.median,
            **rows.rates(timing, images),
            "stall": stall if name == "fastcifar" else None,
        }
        for name, timing in timings.items()
    ]
    around = environment()
    rows.write(({**row, "environment": around} for row in collected), asked.out)
    table = Table("loop", "seconds an epoch", "images/s", "least", "most", "fastcifar is faster by")
    for name, timing in timings.items():
        rate = [f"{images / seconds:,.0f}" for seconds in (timing.median, timing.max, timing.min)]
        table.add_row(name, f"{timing.median:.2f}", *rate, f"{timing.median / timings['fastcifar'].median:.1f}")
    Console(width=120).print(table)
    print(f"data stall of fastcifar: {100 * stall:.2f} %; rows in {asked.out}")


if __name__ == "__main__":
    main()
