"""Estimate how long the report's grid takes on an H100, from the operations, bytes and launches of each step.

    python bench/arithmetic.py

A step of each network is traced here as a CUDA graph records it (`bench.lib.launches`), alone and in a pack, and no
GPU is needed. The estimate of a launch's time on the device is the longest of three times: a launch, its bytes at the
bandwidth of memory, and its operations at the peak rate. A launch of fewer blocks than there are multiprocessors gets
that share of both. A convolution in groups counts as two launches for each group: a profile on an H200 with torch 2.11
shows a kernel of cuDNN for nearly each group, and kernels that copy a group's part. The sum over launches estimates the
step. Caches make the real step shorter. Kernels below both peaks make it longer, as do operations of
several launches. Our own kernels read some arguments several times and multiply the padding of their tiles, and
neither counts.
"""

import argparse
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from rich.console import Console
from rich.table import Table

from bench.lib import rows
from bench.lib.launches import AMP, Launch, Trace, traced
from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.experiments import PROTOCOLS, SEEDS, experiment
from fastcifar.grid.asked import PACK
from fastcifar.grid.packing import EVALUATION_COST, packs_of
from fastcifar.grid.wanted import Wanted, runs_of
from fastcifar.packs.choice import shape_of
from fastcifar.packs.names import SERIAL
from fastcifar.packs.ways import possible
from fastcifar.pipeline import Batch
from fastcifar.runs.spec import RunSpec
from fastcifar.show.progress import track
from fastcifar.system.measure import environment
from fastcifar.system.scratch import Scratch
from fastcifar.training.batches import open_pipelines
from fastcifar.training.footprint import footprint
from fastcifar.training.learner import Learner

PEAK, BANDWIDTH = 989.4e12, 3.35e12  # H100 SXM5, data sheet: dense bfloat16 operations a second, bytes a second
MULTIPROCESSORS = 132
LAUNCHES_OF_A_GROUP = 2
LAUNCH = 2e-6  # seconds, assumed: from one short kernel's start to the next one's, in a recorded graph
STEP_HEADER = ("network, batch", "runs", "way", "launches", "GFLOP", "MB", "µs a step", "of it Adam", "a run, of alone")
ADAM = ("_foreach_add_", "_fused_adam_", "_foreach_copy_", "write_numbers", "write_step")
"""The launches of Adam: torch's, and those of a stack with the copies of its gradients."""
PACKS = (1, 24, PACK["cuda"])
IMAGES = 40_000, 10_000  # training and validation images of CIFAR-10 under a 4:1 split
CPU = torch.device("cpu")


def seconds(launch: Launch) -> float:
    """Return the estimated seconds of a launch."""
    share = 1.0 if launch.blocks is None else min(1.0, launch.blocks / MULTIPROCESSORS)
    launches = 1 if launch.groups == 1 else LAUNCHES_OF_A_GROUP * launch.groups
    return max(LAUNCH * launches, launch.flops / (PEAK * share), launch.moved / (BANDWIDTH * share))


def duration(trace: Trace) -> float:
    """Return the estimated seconds of a step."""
    return sum(map(seconds, trace.launches))


def steps_of(spec: RunSpec, dataset: Dataset, runs: int) -> dict[str, Trace]:
    """Trace a step of ``runs`` runs in each way that trains them as one program; for one run, of the run alone."""
    if runs == 1:
        return {SERIAL: traced([spec], dataset, None)}
    specs = [spec.with_seed(seed) for seed in range(runs)]
    return {way: traced(specs, dataset, way) for way in possible(spec, AMP) if way != SERIAL}


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
            steps = {size: steps_of(specs[0], dataset, size) for size in sorted({*PACKS, *sizes})}
            found += [_step(specs[0], size, way, trace) for size in PACKS for way, trace in steps[size].items()]
            alone = duration(steps[1][SERIAL])
            fastest = {size: min([alone * size, *map(duration, of.values())]) for size, of in steps.items()}
            grid.append(_grid(specs, sum(fastest[size] * count for size, count in sizes.items()), sizes.total()))
        grid += [_pretrained(model, dataset) for model in experiment(4, "sound").models]
    around = environment()
    rows.write(({**row, "environment": around} for row in found + grid), out)
    table = Table(*STEP_HEADER)
    for row in found:
        table.add_row(*cells(row, found))
    Console(width=120).print(table)
    print(f"rows in {out}")


def _step(spec: RunSpec, size: int, way: str, trace: Trace) -> dict[str, Any]:
    return {
        "bench": "arithmetic of a step",
        "model": spec.model,
        "batch_size": spec.batch_size,
        "precision": spec.precision,
        "runs": size,
        "way": way,
        "launches": len(trace.launches),
        "flops": trace.flops,
        "bytes": trace.moved,
        "step_seconds": duration(trace),
        "adam_seconds": sum(seconds(launch) for launch in trace.launches if launch.name in ADAM),
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
    """Return the cells of a row under STEP_HEADER."""
    (alone,) = (other for other in among if other["runs"] == 1 and _same(other, row))
    gain = alone["step_seconds"] * row["runs"] / row["step_seconds"]
    return [
        f"{row['model']}, {row['batch_size']}",
        str(row["runs"]),
        row["way"],
        f"{row['launches']:,}",
        f"{row['flops'] / 1e9:,.1f}",
        f"{row['bytes'] / 1e6:,.0f}",
        f"{row['step_seconds'] * 1e6:,.0f}",
        f"{row['adam_seconds'] * 1e6:,.0f}",
        "" if row["runs"] == 1 else f"{gain:.1f}×",
    ]


def _same(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(row[key] == other[key] for key in ("model", "batch_size"))


if __name__ == "__main__":
    main()
