"""Time what fastcifar.Loader adds to a pipeline, and how long a new process waits for its first batch.

    python bench/loader.py --data data/cifar10

The Loader's own cost is the CPU time of a ``for`` loop over a pipeline that yields one cached batch, less that of the
same loop over the pipeline itself. It is compared with the time of a batch of the pipeline resident. The first batch is
timed in new processes, imports included. The kernels are compiled before, as in every process but a machine's first.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from bench.lib import rows
from fastcifar.data.dataset import Dataset
from fastcifar.loader import Loader
from fastcifar.pipeline import Batch, Pipeline, Request, open_pipeline
from fastcifar.system.measure import alternate, environment

RECIPE, BATCH = "standard", 512
CACHED = 20_000  # batches of a loop over the cached batch
FIRST = """
import sys, time
clock = [time.perf_counter()]
import torch; clock.append(time.perf_counter())
import fastcifar.loader, fastcifar.kernels.cpu; clock.append(time.perf_counter())
loader = fastcifar.Loader(sys.argv[1], augment={recipe!r}, batch_size={batch}, device="cpu", dtype="bfloat16")
clock.append(time.perf_counter())
next(iter(loader)); clock.append(time.perf_counter())
print(*(after - before for before, after in zip(clock, clock[1:])))
"""
PARTS = ("import torch", "import fastcifar and numba", "open the dataset", "first batch, with loading the kernels")


class Cached(Pipeline):
    """A pipeline that yields one batch of the pipeline resident again and again."""

    def __init__(self, request: Request, form: str = "") -> None:
        super().__init__(request, form)
        with open_pipeline("resident", request.dataset, augment=request.augment, batch_size=BATCH) as made:
            self._batch = next(iter(made.epoch(0)))

    def epoch(self, k: int, start: int = 0) -> Iterator[Batch]:
        for _ in range(CACHED):
            yield self._batch

    def close(self) -> None:
        pass


def own_cost(dataset: Dataset, repeats: int) -> dict[str, Any]:
    """Return the Loader's CPU time a batch, in microseconds, and its share of a batch of the pipeline resident."""
    loader = Loader(dataset, augment=RECIPE, batch_size=BATCH, device="cpu", pipeline=Cached)
    bare = loader._pipelines()[0]
    spent = alternate({"bare": lambda: _through(bare.epoch(0)), "loader": lambda: _through(loader)}, repeats)
    microseconds = {name: 1e6 * median(timing.cpu_seconds) / CACHED for name, timing in spent.items()}
    with open_pipeline(
        "resident", dataset, augment=loader._whole.augment, batch_size=BATCH, dtype=torch.bfloat16
    ) as resident:
        batches = len(resident)
        timing = alternate({"resident": lambda: _through(resident.epoch(0))}, repeats, warmup=2)["resident"]
    own, batch = microseconds["loader"] - microseconds["bare"], 1e6 * timing.median / batches
    return {
        "what": "own cost", "recipe": RECIPE, "batch_size": BATCH, "dtype": "bfloat16", "repeats": repeats,
        "own_us": own, "resident_us": batch, "share": own / batch,
    }  # fmt: skip


def _through(batches: Any) -> None:
    for _ in batches:
        pass


def first_batch(data: str, repeats: int) -> dict[str, Any]:
    """Return the seconds that a new process takes until its first batch, in all and in its parts: medians."""
    program = FIRST.format(recipe=RECIPE, batch=BATCH)

    def once() -> list[float]:
        started = time.perf_counter()
        ran = subprocess.run([sys.executable, "-c", program, data], capture_output=True, text=True, check=True)
        return [time.perf_counter() - started, *map(float, ran.stdout.split())]

    once()  # compile the kernels, and read the libraries from the disk
    whole, *inside = (median(column) for column in zip(*(once() for _ in range(repeats)), strict=True))
    parts = dict(zip(PARTS, inside, strict=True))
    return {
        "what": "first batch", "recipe": RECIPE, "batch_size": BATCH, "repeats": repeats, "seconds": whole,
        "parts": parts, "longest": max(parts, key=lambda name: parts[name]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a dataset directory, made by fastcifar convert")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "loader-cpu.jsonl")
    options = parser.parse_args()
    dataset, around = Dataset.open(options.data), environment()
    tasks: list[Callable[[], dict[str, Any]]] = [
        lambda: first_batch(options.data, options.repeats), lambda: own_cost(dataset, options.repeats),
    ]  # fmt: skip
    collected = [task() for task in tasks]
    for row in collected:
        print(json.dumps(row), flush=True)
    rows.write(({**row, "environment": around} for row in collected), options.out)


if __name__ == "__main__":
    main()
