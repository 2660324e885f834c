"""Train the report's experiments 1 to 3 on a device, and say what their whole grid takes; a small grid by its command.

The packs of the experiments train in this process, by the functions that `fastcifar grid` calls in its own: `grid.plan`
measures the ways of a shape, and a `grid.worker` trains packs, with validation and all files. Only the order is
another one: a pack of each shape comes first, so that as many shapes as possible are measured if time runs out.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from threading import Timer
from time import perf_counter
from typing import Any

from bench.gpu.costs import Found, cost_of, extrapolated, in_turns, in_words, name, recorded, rest
from bench.gpu.loops import peak
from bench.gpu.notes import Notes
from fastcifar.data.dataset import Dataset
from fastcifar.grid.asked import Asked
from fastcifar.grid.messages import Ended, Event, Job
from fastcifar.grid.packing import Pack, packs_of
from fastcifar.grid.plan import plan
from fastcifar.grid.wanted import Runs, Wanted, runs_of
from fastcifar.grid.worker import Worker
from fastcifar.runs.directory import RunDirectory, find_runs
from fastcifar.show.text import counted
from fastcifar.system.scratch import Scratch
from tools.processes import tied

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = (2, 3, 1)  # most valuable first
EPOCHS = 3  # of each run; an epoch is timed from the end of the first, which also opens and captures
SHAPE, SMALL = 20.0, 40.0  # least seconds for a new shape, and for the small grid
KEPT = 10.0  # seconds before the step's end after which a pack stops at the end of its epoch
MOST_SECONDS = 3600.0  # of a timer, where nothing ends the step
TINY: dict[str, Any] = {"seeds": [0], "only": {"recipe": ["none"], "lr": [0.001]}}
GRID = ("--exp", "2", "--only", "batch_size=128", "--only", "lr=0.001", "--only", "l2=0", "--only", "dropout=0.5",
        "--only", "recipe=basic,erasing", "--seeds", "0-5", "--epochs", "2")  # fmt: skip
TINY_GRID = ("--exp", "1", "--only", "model=mlp_s", "--seeds", "0", "--epochs", "1", "--way", "serial")


def grid(notes: Notes) -> None:
    """Write a row of each pack of the experiments, of each experiment, of the whole, and of a small grid by command."""
    with notes.images(50_000) as dataset:
        with notes.trying("grid whole", "experiments 1 to 3"):
            experiments(notes, dataset)
        notes.release()
        if notes.left() < SMALL:
            notes.row("not run", f"the small grid by its command was not run: {notes.left():.0f} s left")
            return
        with notes.trying("grid", "grid"):
            by_command(notes, dataset)


def experiments(notes: Notes, dataset: Dataset) -> None:
    """Train the packs of the experiments until all are trained or time runs out, and write the rows."""
    overrides = {"epochs": [EPOCHS]} | ({"batch_size": [8]} if notes.tiny else {})
    specs = runs_of(
        Wanted(EXPERIMENTS, overrides=overrides, **(TINY if notes.tiny else {})), dataset, notes.device
    ).specs
    shapes = [Found(pack) for pack in in_turns(packs_of(specs, lambda shape: len(specs)), EXPERIMENTS)]
    with Scratch() as out:
        asked = Asked(dataset, Path(out), notes.device, pack=2 if notes.tiny else None)
        worker = Worker(dataset, asked.out, str(notes.device))
        ending = Timer(min(notes.left() - KEPT, MOST_SECONDS), worker.stop.set)
        ending.daemon = True
        ending.start()
        try:
            for shape in shapes:
                if notes.left() > SHAPE:
                    with notes.trying("grid pack", name(shape.together)):
                        _open(notes, asked, shape)
                        _train(notes, asked, worker, shape, shape.packs[0])
            for shape, pack in rest(shapes):
                cost = shape.cost(pack)
                if cost is not None and notes.left() > KEPT + cost.opening + EPOCHS * cost.epoch:
                    with notes.trying("grid pack", name(pack)):
                        _train(notes, asked, worker, shape, pack)
        finally:  # also where the step is ended
            ending.cancel()
            for number in sorted(EXPERIMENTS):
                _experiment(notes, number, [shape for shape in shapes if shape.number == number])
            whole = extrapolated(shapes)
            notes.row("grid whole", in_words(whole), epochs=EPOCHS, **whole)


def _open(notes: Notes, asked: Asked, shape: Found) -> None:
    """Measure the ways of a shape, as the plan of a grid does, and take its packs."""
    notes.release()
    started = perf_counter()
    planned = plan(asked, Runs(shape.together.specs, {}), print)
    shape.measuring = perf_counter() - started
    shape.packs, shape.measured = planned.packs, planned.measured[shape.together.shape]


def _train(notes: Notes, asked: Asked, worker: Worker, shape: Found, pack: Pack) -> None:
    """Train a pack and write its row; none where time ran out in its first epoch. Raises RuntimeError for a failure."""
    ended: list[Ended] = []

    def tell(event: Event) -> None:
        if isinstance(event, Ended):
            ended.append(event)

    notes.release()
    started = perf_counter()
    worker.train(Job(0, pack.specs, asked.most), tell)
    seconds = perf_counter() - started
    errors = [event.error for event in ended if event.error is not None]
    if errors:
        raise RuntimeError(f"{len(errors)} of {counted(len(pack.specs), 'run')} failed: {errors[0]}")
    lines = [RunDirectory.of(spec, asked.out).metrics() for spec in pack.specs]
    if shape.measured is None or not any(lines):
        print(f"{name(pack)}: no epoch ended in time", flush=True)
        return
    first, cost = pack.specs[0], cost_of(lines, shape.measured.way, seconds)
    shape.costs[pack] = cost
    says = f"{name(pack)}, {cost.way}: {cost.epoch:.2f} s an epoch, {cost.opening:.1f} s to open and capture, "
    says += f"{shape.measuring:.1f} s to measure the ways of its shape"
    notes.row(
        "grid pack", says, experiment=first.experiment, model=first.model, batch_size=first.batch_size,
        dtype=first.precision, recipes=sorted({spec.recipe for spec in pack.specs}), runs=cost.runs, way=cost.way,
        epochs=cost.epochs, epoch_seconds=cost.epoch, opening_seconds=cost.opening, seconds=seconds,
        training_and_validation_seconds=recorded(lines), measuring_seconds=shape.measuring,
        ways_images_per_s=shape.measured.images_per_s, peak_device_bytes=peak(notes.device),
    )  # fmt: skip


def _experiment(notes: Notes, number: int, shapes: Sequence[Found]) -> None:
    """Write the row of an experiment: what was trained of it, without estimates."""
    costs = [cost for shape in shapes for cost in shape.costs.values()]
    runs, trained = sum(len(shape.together.specs) for shape in shapes), sum(cost.runs for cost in costs)
    ways = sorted({cost.way for cost in costs})
    took = {
        "training_seconds": sum(cost.epochs * cost.epoch for cost in costs),
        "epoch_seconds": sum(cost.epoch for cost in costs),
        "measuring_seconds": sum(shape.measuring for shape in shapes),
        "opening_seconds": sum(cost.opening for cost in costs),
    }
    says = f"experiment {number}: {trained} of {runs} runs in {counted(len(costs), 'pack')}, {' and '.join(ways)}: "
    says += f"{took['epoch_seconds']:.2f} s an epoch; before, {took['measuring_seconds']:.1f} s to measure ways, "
    says += f"{took['opening_seconds']:.1f} to open and capture"
    notes.row(
        "grid experiment", says if costs else f"experiment {number}: none of {runs} runs was trained",
        experiment=number, runs=runs, runs_trained=trained, packs=sum(len(shape.packs) for shape in shapes),
        packs_trained=len(costs), shapes=len(shapes), shapes_trained=sum(bool(shape.costs) for shape in shapes),
        ways=ways, epochs=EPOCHS, **took,
    )  # fmt: skip


def by_command(notes: Notes, dataset: Dataset) -> None:
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
