"""Estimate how long the report's grid takes on an H100, from the operations, bytes and launches of each step.

    python bench/arithmetic.py

A step of each network runs once here, on the CPU, alone and in a pack. Every operation that makes a new tensor is
counted: one launch, its floating-point operations, and the bytes that it reads and writes. The estimate of its time on
the device is the longest of three times: a launch, its bytes at the memory's bandwidth, and its operations at the peak
rate. The sum over operations estimates a step that is recorded as a CUDA graph. Caches and fused kernels make the real
step shorter; kernels below the peak rate make it longer.
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bench.lib import rows
from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.experiments import PROTOCOLS, SEEDS, experiment
from fastcifar.grid.asked import PACK
from fastcifar.grid.packing import EVALUATION_COST, packs_of
from fastcifar.grid.wanted import Wanted, runs_of
from fastcifar.packs.choice import shape_of
from fastcifar.packs.feed import Feed
from fastcifar.packs.stacked import Stacked
from fastcifar.pipeline import Batch
from fastcifar.runs.spec import RunSpec
from fastcifar.show.progress import track
from fastcifar.system.measure import environment
from fastcifar.system.scratch import Scratch
from fastcifar.training.batches import open_pipelines, requests
from fastcifar.training.footprint import counter_of_flops, footprint
from fastcifar.training.learner import Learner

PEAK, BANDWIDTH = 989.4e12, 3.35e12  # H100 SXM5, data sheet: dense bfloat16 operations a second, bytes a second
LAUNCH = 2e-6  # seconds, assumed: from one short kernel's start to the next one's, in a recorded graph
PIXELS = 1  # kernel launches that make a batch
PACKS = (1, 24, PACK["cuda"])
IMAGES = 40_000, 10_000  # training and validation images of CIFAR-10 under a 4:1 split
CPU = torch.device("cpu")


class Counted(TorchDispatchMode):
    """A dispatch mode that counts the launches, operations and bytes of the torch operations within it."""

    def __init__(self, flops: FlopCounterMode) -> None:
        """Create the mode. flops: torch's counter of floating-point operations, which must be entered first."""
        super().__init__()
        self._counter = flops
        self.launches, self.flops, self.bytes, self.seconds = 0, 0, 0, 0.0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        before = self._counter.get_total_flops()
        out = function(*arguments, **(named or {}))
        flops = self._counter.get_total_flops() - before
        if not _makes_nothing(function):
            moved = _moved(function, arguments, named or {}, out)
            self.launches += 1
            self.flops += flops
            self.bytes += moved
            self.seconds += max(LAUNCH, flops / PEAK, moved / BANDWIDTH)
        return out


def _makes_nothing(function: Any) -> bool:
    """Return whether an operation only returns a view or allocates memory."""
    views = [result.alias_info for result in function._schema.returns]
    return "empty" in function.__name__ or any(alias is not None and not alias.is_write for alias in views)


def _moved(function: Any, arguments: Any, named: dict[str, Any], out: Any) -> int:
    """Return the bytes that an operation reads and writes: its arguments, once more if changed, and its new results."""
    total = _bytes((arguments, named))
    if function is torch.ops.aten.copy_.default:
        return total  # the target of a copy is written but not read
    for value, argument in zip(arguments, function._schema.arguments, strict=False):
        if argument.alias_info is not None and argument.alias_info.is_write and argument.name != "grads":
            total += _bytes(value)
    changed = [result.alias_info is not None for result in function._schema.returns]
    return total if any(changed) else total + _bytes(out)


def _bytes(values: Any) -> int:
    """Return the bytes of all tensors among the values. An expanded tensor counts with the size of its storage."""
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    return sum(min(t.numel() * t.element_size(), t.untyped_storage().nbytes()) for t in tensors)


def step_of(spec: RunSpec, dataset: Dataset, runs: int) -> Counted:
    """Run and count one training step of a pack of ``runs`` runs, or of a run alone."""
    specs = [spec.with_seed(seed) for seed in range(runs)]
    learners = [Learner.new(each, len(dataset.classes), CPU) for each in specs]
    feed = Feed.open("resident", dataset, [requests(each, CPU)[0] for each in specs], [0] * runs)
    with feed:
        batch = next(iter(feed.epoch(1)))
        step: Callable[[], object]
        if runs == 1:
            alone = Batch(*(values[0] for values in batch))
            step = lambda: learners[0].step(alone)  # noqa: E731
        else:
            stack, clock = Stacked(learners, feed.which), feed.clock(1)
            step = lambda: stack.step(batch, clock)  # noqa: E731
        step()  # the first step also finds the micro-batch size that fits into memory
        with counter_of_flops() as flops, Counted(flops) as counted:
            step()
    counted.launches += PIXELS
    counted.seconds += PIXELS * LAUNCH
    return counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "arithmetic-h100.jsonl")
    out = parser.parse_args().out
    found: list[dict[str, Any]] = []
    grid: list[dict[str, Any]] = []
    with Scratch() as scratch:
        dataset = convert("synthetic:600", Path(scratch) / "dataset")
        runs = runs_of(Wanted([1, 2, 3], seeds=SEEDS, amp="bfloat16"), dataset, CPU).specs
        shapes: dict[Any, list[RunSpec]] = {}
        for spec in runs:
            shapes.setdefault(shape_of(spec)._replace(side=32), []).append(spec)
        for specs in track(list(shapes.values()), "counting"):
            sizes = Counter(len(pack.specs) for pack in packs_of(specs, lambda shape: PACK["cuda"]))
            steps = {size: step_of(specs[0], dataset, size) for size in {*PACKS, *sizes}}
            found += [_step(specs[0], size, steps[size]) for size in PACKS]
            grid.append(_grid(specs, sum(steps[size].seconds * count for size, count in sizes.items()), sizes.total()))
        grid += [_pretrained(model, dataset) for model in experiment(4, "sound").models]
    around = environment()
    rows.write(({**row, "environment": around} for row in found + grid), out)
    table = Table("network, batch", "runs of a pack", "launches", "GFLOP", "MB", "µs a step", "faster than alone")
    for row in found:
        table.add_row(*cells(row, found))
    Console(width=120).print(table)
    print(f"rows in {out}")


def _step(spec: RunSpec, size: int, counted: Counted) -> dict[str, Any]:
    return {
        "bench": "arithmetic of a step",
        "model": spec.model,
        "batch_size": spec.batch_size,
        "precision": spec.precision,
        "runs": size,
        "launches": counted.launches,
        "flops": counted.flops,
        "bytes": counted.bytes,
        "step_seconds": counted.seconds,
    }


def _grid(specs: list[RunSpec], step_seconds: float, packs: int) -> dict[str, Any]:
    """Return the row of a configuration. step_seconds: the sum over packs of a step's estimated seconds."""
    spec = specs[0]
    steps = math.ceil(IMAGES[0] / spec.batch_size) + EVALUATION_COST * math.ceil(IMAGES[1] / spec.batch_size)
    epoch = steps * step_seconds
    return {
        "bench": "arithmetic of the grid",
        "experiment": spec.experiment,
        "model": spec.model,
        "batch_size": spec.batch_size,
        "precision": spec.precision,
        "grid_runs": len(specs),
        "packs": packs,
        "grid_seconds": [epoch * min(spec.epochs, PROTOCOLS[spec.protocol].min_epochs), epoch * spec.epochs],
    }


def _pretrained(model: str, dataset: Dataset) -> dict[str, Any]:
    """Return the row of a pretrained network. Only its operations count, which are the same at any batch size."""
    chosen = experiment(4, "sound").configuration(model=model, batch_size=1)
    spec = RunSpec(4, protocol="sound", seed=0, dataset=dataset.sha256, weights="none", precision="bfloat16", **chosen)
    training, validation = open_pipelines(spec, dataset, CPU)
    validation.close()
    with training:
        batch = next(iter(training.epoch(1)))
        pair = Batch(*(torch.cat([values, values]) for values in batch))  # BatchNorm cannot train on one image
        flops = footprint(Learner.new(spec, len(dataset.classes), CPU), pair).flops
    epoch = flops * (IMAGES[0] + EVALUATION_COST * IMAGES[1]) / PEAK * len(SEEDS)
    return {
        "bench": "arithmetic of the grid",
        "experiment": 4,
        "model": model,
        "precision": spec.precision,
        "flops": flops,
        "grid_runs": len(SEEDS),
        "packs": len(SEEDS),
        "grid_seconds": [epoch * PROTOCOLS["sound"].min_epochs, epoch * spec.epochs],
    }


def cells(row: dict[str, Any], among: list[dict[str, Any]]) -> list[str]:
    """Return a row as text: network, runs, launches, GFLOP, MB and microseconds of a step, and the gain for a run."""
    (alone,) = (other for other in among if other["runs"] == 1 and _same(other, row))
    gain = alone["step_seconds"] * row["runs"] / row["step_seconds"]
    return [
        f"{row['model']}, {row['batch_size']}",
        str(row["runs"]),
        f"{row['launches']:,}",
        f"{row['flops'] / 1e9:,.1f}",
        f"{row['bytes'] / 1e6:,.0f}",
        f"{row['step_seconds'] * 1e6:,.0f}",
        "" if row["runs"] == 1 else f"{gain:.1f}×",
    ]


def _same(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(row[key] == other[key] for key in ("model", "batch_size"))


if __name__ == "__main__":
    main()
