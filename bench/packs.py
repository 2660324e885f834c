"""Time packs of the CNN, MLP S and ViT: each way to train a pack, against serial runs and a plain PyTorch loop.

    python bench/training.py --packs --data data/cifar10

Each pack has the headline configuration of an experiment with twelve seeds (--runs). Only training steps are timed,
without validation and files. The plain loop reads PNG files and trains one run; twelve runs would take twelve times as
long. All contestants take turns.
"""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from rich.console import Console
from rich.table import Table

from bench.lib import rows
from bench.rivals.plain import PlainLoop, write_pngs
from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError
from fastcifar.experiments import PROTOCOLS
from fastcifar.packs import choice
from fastcifar.packs.names import SERIAL
from fastcifar.packs.trial import Trial, trial_of
from fastcifar.packs.ways import possible
from fastcifar.runs.plan import headline_runs, precision_of
from fastcifar.runs.spec import RunSpec
from fastcifar.system.measure import Clock, Timing, alternate, environment
from fastcifar.system.scratch import Scratch

NETWORKS = {"cnn": 2, "mlp_s": 1, "vit": 3}  # with their experiments
TURN = 2.0  # target seconds of a turn
PLAIN_IMAGES = 2560  # images in an epoch of the plain loop: 20 batches


class Turns:
    """A way's trial as a callable: each call is a turn with the same number of steps."""

    def __init__(self, trial: Trial, device: torch.device) -> None:
        self._trial = trial
        with Clock(str(device)) as clock:
            trial.train(1)
        self._steps = max(1, round(TURN / clock.seconds))
        self.images = trial.train(self._steps)
        """Images that all runs together train on in a turn."""

    def __call__(self) -> None:
        if self._trial.train(self._steps) != self.images:
            raise FastcifarError("a turn trained on another number of images than the first one; report this as a bug")


class PackExtent(NamedTuple):
    """How much is measured of each network."""

    runs: int
    """runs of a pack"""
    repeats: int
    """timed turns of each contestant"""
    workers: list[int]
    """worker processes of DataLoader, for each plain loop"""


def pack_rows(
    model: str, dataset: Dataset, pngs: Path, device: torch.device, extent: PackExtent
) -> list[dict[str, Any]]:
    """Return a row for each way and each plain loop of a network. pngs: the folder of the plain loops' images."""
    runs = extent.runs
    precision = precision_of("auto", device)
    spec = headline_runs(NETWORKS[model], dataset, seeds=[0], model=model, precision=precision)[0]
    picked = choice.measure(spec, dataset, device, runs).way
    recipe = PROTOCOLS[spec.protocol].recipe(spec.recipe)
    with ExitStack() as opened:
        turns = {
            way: Turns(opened.enter_context(trial_of(way, spec, dataset, device, runs)), device)
            for way in possible(spec, device)
        }
        plain = {
            f"plain, {n} workers": PlainLoop(pngs, recipe, n, spec.batch_size, device, (model, spec.l2))
            for n in extent.workers
        }
        timings = alternate(
            {**turns, **{name: loop.epoch for name, loop in plain.items()}}, extent.repeats, device=str(device)
        )  # fmt: skip
    images = {name: turns[name].images if name in turns else PLAIN_IMAGES for name in timings}
    return [
        _row(spec, name, timing, images[name], {"runs": runs, "picked": name == picked, "device": str(device)})
        for name, timing in timings.items()
    ]


def _row(spec: RunSpec, loop: str, timing: Timing, images: int, about: dict[str, Any]) -> dict[str, Any]:
    plain = loop.startswith("plain")
    return {
        "bench": "packs",
        "model": spec.model,
        "recipe": spec.recipe,
        "loop": loop,
        **about,
        "runs": 1 if plain else about["runs"],
        "dtype": "float32" if plain else spec.precision,
        "batch_size": spec.batch_size,
        "threads": torch.get_num_threads(),
        "images": images,
        "seconds": timing.median,
        **rows.rates(timing, images),
    }


def write_packs(data: Dataset, device: torch.device, repeats: int, workers: list[int], out: Path, runs: int) -> None:
    """Measure all networks, write the rows and print them."""
    with Scratch() as scratch:
        write_pngs(data, Path(scratch), PLAIN_IMAGES if workers else 0)
        collected = [
            row
            for model in NETWORKS
            for row in pack_rows(model, data, Path(scratch), device, PackExtent(runs, repeats, workers))
        ]  # fmt: skip
    around = environment()
    rows.write(({**row, "environment": around} for row in collected), out)
    table = Table("network", "loop", "images/s, all runs", "least", "most", "of serial's time", "of the plain loop's")
    for row in collected:
        rate = [f"{row[key]:,.0f}" for key in ("images_per_s", "images_per_s_min", "images_per_s_max")]
        table.add_row(row["model"], f"{'> ' if row['picked'] else ''}{row['loop']}", *rate, *shares(row, collected))
    Console(width=120).print(table)
    print(f"> is what the planner picks; rows in {out}")


def shares(row: dict[str, Any], among: list[dict[str, Any]]) -> tuple[str, str]:
    """Return a row's time for an image as shares of serial's time and of the faster plain loop's, for its network."""
    rate = {other["loop"]: other["images_per_s"] for other in among if other["model"] == row["model"]}
    plain = max((speed for loop, speed in rate.items() if loop.startswith("plain")), default=None)
    return f"{rate[SERIAL] / row['images_per_s']:.2f}", "" if plain is None else f"1/{row['images_per_s'] / plain:.1f}"
