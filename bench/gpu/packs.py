"""Train many runs at once on a device: each way to train a pack, and a small grid by its command."""

import json
import subprocess
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.gpu.device_profile import profiled
from bench.gpu.loops import PROFILED, REPEATS, peak, spec_of
from bench.gpu.notes import Notes
from bench.lib import rows
from fastcifar.data.dataset import Dataset
from fastcifar.packs.names import SIDE_BY_SIDE
from fastcifar.packs.trial import Trial, trial_of
from fastcifar.packs.ways import possible
from fastcifar.runs.directory import find_runs
from fastcifar.runs.spec import RunSpec
from fastcifar.system.measure import Clock, alternate
from fastcifar.system.scratch import Scratch
from tools.processes import tied

RUNS = 24  # runs of a pack
NETWORKS = {"cnn": 2, "vit": 3, "mlp_s": 1}  # with their experiments, most valuable first
ROOT = Path(__file__).resolve().parent.parent
TURN_SECONDS, MOST_STEPS = 0.4, 200  # of a turn: approximate seconds; most steps, of an epoch's 312
GRID = ("--exp", "2", "--only", "batch_size=128", "--only", "lr=0.001", "--only", "l2=0", "--only", "dropout=0.5",
        "--only", "recipe=basic,erasing", "--seeds", "0-5", "--epochs", "2")  # fmt: skip
TINY_GRID = ("--exp", "1", "--only", "model=mlp_s", "--seeds", "0", "--epochs", "1", "--way", "serial")


def packs(notes: Notes) -> None:
    """Write a row and a profile for each network and each way to train RUNS runs at once, and a row of a small grid."""
    runs = 2 if notes.tiny else RUNS
    with notes.images(50_000) as dataset:
        for model, number in NETWORKS.items():
            spec = spec_of(number, dataset, notes.tiny, model=model)
            for way in possible(spec, notes.device):
                with notes.trying("pack", _about(spec, way, runs)):
                    notes.release()
                    with Clock(str(notes.device)) as opening:
                        trial = trial_of(way, spec, dataset, notes.device, runs)
                    with trial:
                        _pack(notes, spec, way, runs, trial, opening.seconds)
                    del trial
        notes.release()
        with notes.trying("grid", "grid"):
            grid(notes, dataset)


def _about(spec: RunSpec, way: str, runs: int) -> str:
    return f"{spec.model} {way}, {runs} runs"


def _pack(notes: Notes, spec: RunSpec, way: str, runs: int, trial: Trial, opening: float) -> None:
    about = _about(spec, way, runs)
    with Clock(str(notes.device)) as clock:
        trial.train(2)
    steps = 1 if notes.tiny else max(1, min(MOST_STEPS, round(2 * TURN_SECONDS / clock.seconds)))
    images = trial.train(steps)
    timing = alternate({way: lambda: trial.train(steps)}, 1 if notes.tiny else REPEATS, device=str(notes.device))[way]
    speed = rows.rates(timing, images)
    says = f"{about}: {speed['images_per_s']:,.0f} images/s together, {1e6 * timing.median / steps:,.0f} us a step"
    notes.row(
        "pack", says, model=spec.model, way=way, runs=runs, dtype=spec.precision, batch_size=spec.batch_size,
        recipe=spec.recipe, steps=steps, step_seconds=timing.median / steps, opening_seconds=opening,
        peak_device_bytes=peak(notes.device), **speed,
    )  # fmt: skip
    if way != SIDE_BY_SIDE:  # it runs on the CPU only, in threads that the profiler does not see
        profiled(notes, about, trial.train, 1 if notes.tiny else PROFILED)


def grid(notes: Notes, dataset: Dataset) -> None:
    """Write a row of the runs a minute of `fastcifar grid`, which plans, packs, trains, validates and saves them.

    Raises RuntimeError where a run failed, was left or was not saved.
    """
    chosen = TINY_GRID if notes.tiny else GRID
    with Scratch() as out:
        where = ("--data", str(dataset.path), "--out", out, "--device", str(notes.device), "--json")
        started = perf_counter()
        done = subprocess.run(
            tied(["-m", "fastcifar", "grid", *chosen, *where]), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
        seconds = perf_counter() - started
        answer: dict[str, Any] = json.loads(done.stdout)
        written = sum(directory.summary() is not None for directory in find_runs(Path(out)))
    count, epochs = len(answer["finished"]), sum(run["epochs"] for run in answer["finished"])
    if not count or answer["failed"] or answer["left"] or written != count:
        raise RuntimeError(f"{count} runs finished, {written} saved; failed {answer['failed']}, left {answer['left']}")
    says = f"grid: {count} runs of {epochs // count} epochs in {answer['seconds']:.1f} s, "
    says += f"{60 * count / answer['seconds']:,.1f} runs a minute; {seconds:.1f} s with its start"
    notes.row(
        "grid", says, runs=count, epochs=epochs, seconds=answer["seconds"], wall_seconds=seconds,
        runs_a_minute=60 * count / answer["seconds"], scheduler_seconds=answer["scheduler_seconds"], options=chosen,
        ways=sorted({str(run.get("mode")) for run in answer["finished"]}),
    )  # fmt: skip
