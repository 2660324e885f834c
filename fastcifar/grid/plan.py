"""A grid from its options to its results: the options, the plan and the training."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.grid.asked import Asked
from fastcifar.grid.leases import Leases
from fastcifar.grid.local import Local
from fastcifar.grid.packing import Pack, packs_of, seconds_of, unfinished
from fastcifar.grid.progress import Progress
from fastcifar.grid.scheduler import Executor, Limits, Results, Scheduler
from fastcifar.grid.speeds import Kind, Speed, Speeds
from fastcifar.grid.tables import Row, experiments_table, plan_table
from fastcifar.grid.wanted import Runs
from fastcifar.grid.worker import CALIBRATION
from fastcifar.packs.choice import Calibration, Measured
from fastcifar.packs.names import SERIAL
from fastcifar.packs.shape import Shape
from fastcifar.packs.stacked import can_stack
from fastcifar.packs.ways import possible
from fastcifar.runs.code import changed_since
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec, is_fine_tuned
from fastcifar.show.columns import Fitted
from fastcifar.show.text import counted, duration
from fastcifar.system import machine

MEMORY_SHARE = 0.8  # share of the device's memory that a pack may take


@dataclass(frozen=True)
class Plan:
    """The plan of a grid: all its runs, the packs of its unfinished runs, and the measurements of their shapes."""

    specs: tuple[RunSpec, ...]
    packs: tuple[Pack, ...]
    measured: Mapping[Shape, Measured]
    asked: Asked
    speeds: Mapping[Kind, Speed] | None = None
    """The speeds that a quick plan rests on."""
    source: str = ""
    """A sentence on where these speeds come from."""

    @property
    def todo(self) -> list[RunSpec]:
        """The unfinished runs."""
        return [spec for pack in self.packs for spec in pack.specs]

    def rows(self) -> list[Row]:
        """Return for each shape: its runs as one pack, its number of packs, its measurements, `seconds_of` its runs."""
        devices, rows = len(self.asked.devices), []
        for shape, measured in self.measured.items():
            packs = [pack for pack in self.packs if pack.shape == shape]
            together = Pack(tuple(spec for pack in packs for spec in pack.specs))
            rows.append((together, len(packs), measured, seconds_of(together, measured, self.asked.dataset, devices)))
        return rows

    def seconds(self) -> tuple[float, float]:
        """Return the least and the greatest duration of the whole grid, in seconds."""
        spans = [span for *_, span in self.rows()]
        return sum(low for low, _ in spans), sum(high for _, high in spans)

    def tables(self) -> list[Fitted]:
        """Return the plan as tables for a terminal: its experiments if they are several, and its shapes."""
        rows = self.rows()
        if not rows:
            return []
        sources = None if self.speeds is None else [self.speeds[Kind.of(pack.specs[0])].source for pack, *_ in rows]
        several = len({(pack.shape.experiment, pack.shape.protocol) for pack, *_ in rows}) > 1
        return [*([experiments_table(rows)] * several), plan_table(rows, sources)]

    def sentence(self) -> str:
        """Return a sentence with the numbers of runs and packs, the devices and the duration."""
        finished, (low, high) = len(self.specs) - len(self.todo), self.seconds()
        already = f", {finished} of them finished already" if finished else ""
        epochs = {spec.epochs for spec in self.todo}
        each = f"for {counted(max(epochs), 'epoch')} each" if len(epochs) == 1 else "for all epochs"
        return (
            f"{counted(len(self.specs), 'run')}{already}; {counted(len(self.packs), 'pack')} to train on "
            f"{', '.join(self.asked.devices)}: "
            + (
                f"{duration(high)} at most, {each}; {duration(low)} if all stop early"
                if self.packs
                else "nothing to do"
            )
        )

    def plain(self) -> dict[str, Any]:
        """Return the plan as plain data for scripts, ready for JSON."""
        low, high = self.seconds()
        speeds = (
            {} if self.speeds is None else {"speeds": [{**k._asdict(), **asdict(s)} for k, s in self.speeds.items()]}
        )
        packs = [
            {"runs": [spec.run_id for spec in pack.specs], **pack.shape._asdict(), "way": self.measured[pack.shape].way}
            for pack in self.packs
        ]
        return {"runs": len(self.specs), "unfinished": len(self.todo), "packs": packs, "seconds": [low, high], **speeds}

    def summaries(self, out: Path) -> tuple[list[tuple[RunSpec, dict[str, Any]]], list[str]]:
        """Return the finished runs below ``out`` with their summaries, and a message for each damaged run."""
        summaries: list[tuple[RunSpec, dict[str, Any]]] = []
        damaged = []
        for spec in self.specs:
            summary, error = _summary(RunDirectory.of(spec, out))
            if error is not None:
                damaged.append(error)
            elif summary is not None:
                summaries.append((spec, summary))
        return summaries, damaged


def _summary(directory: RunDirectory) -> tuple[dict[str, Any] | None, str | None]:
    try:
        return directory.summary(), None
    except FastcifarError as error:
        return None, str(error)


def plan(asked: Asked, runs: Runs, say: Callable[[str], None] = lambda text: None, quick: Speeds | None = None) -> Plan:
    """Put the unfinished runs into packs. Shapes without a kept measurement are measured first.

    quick: instead of comparing ways, take the speed of one way, with real steps of a few seconds. Such a plan is for
    its hours; it is not for training. Raises UsageError where some runs cannot be trained in the way of ``asked``.
    """
    todo = unfinished(runs.specs, asked.out)
    for changed in filter(None, (changed_since(spec, asked.out) for spec in todo)):
        say(changed)
    calibration, measured = Calibration(asked.out / CALIBRATION), {}
    known, source = None, ""
    if quick is not None:
        known = quick.of(todo)
        source = quick.sentence(known)
    for pack in packs_of(todo, lambda shape: len(todo)):
        first = pack.specs[0]
        if not first.fine_tuned and (reason := can_stack(first)) is not None:
            say(f"{pack.title}: one run after another, since {reason}")
        if known is None:
            of_shape = calibration.of(first, asked.dataset, asked.device, asked.most, say)
        else:
            of_shape = _with_speed(calibration.known(first, asked.device, asked.most), known[Kind.of(first)])
        if asked.way != "auto":
            if asked.way not in possible(first, asked.device):
                raise UsageError(
                    f"--way {asked.way}: {pack.shape.model} cannot be trained in this way on {asked.device}; "
                    f"choose one of auto, {', '.join(possible(first, asked.device))}"
                )
            if asked.way in of_shape.images_per_s:  # a quick plan may know the speed of serial alone
                of_shape = replace(of_shape, way=asked.way)
        measured[pack.shape] = of_shape
    packs = packs_of(todo, lambda shape: _most(shape, measured[shape], asked))
    return Plan(runs.specs, tuple(packs), measured, asked, known, source)


def _with_speed(kept: Measured | None, speed: Speed) -> Measured:
    """Return the measurements of a shape for a quick plan: those of its ways if they are kept, else its speed alone."""
    if kept is None:
        return Measured(SERIAL, {SERIAL: speed.training}, 0, speed.share)
    return kept if kept.evaluation is not None else replace(kept, evaluation=kept.rate / speed.evaluation)


def _most(shape: Shape, measured: Measured, asked: Asked) -> int:
    """Return the largest number of runs in a pack of this shape, so that the pack fits in the device's memory."""
    if is_fine_tuned(shape.model, shape.experiment):
        return asked.most if shape.tune == "head" else 1
    total = machine.memory_bytes()
    if asked.device.type == "cuda":
        total = torch.cuda.get_device_properties(asked.device).total_memory
    return max(1, min(asked.most, int(MEMORY_SHARE * total / max(1, measured.run_bytes))))


def train_grid(asked: Asked, plan: Plan, budget: float | None = None) -> Results:
    """Train the runs of a plan. budget: seconds after which running jobs stop at the end of their epoch.

    Stopped runs can resume in a later call.
    """
    if not plan.packs:
        return Results()
    images = len(asked.dataset.ids("training"))
    with ExitStack() as opened:
        leases = opened.enter_context(Leases(asked.out))
        executor: Executor
        if asked.executor == "ray":
            from fastcifar.grid.ray import Cluster

            cuda = asked.device.type == "cuda"
            executor = opened.enter_context(
                Cluster(asked.dataset, asked.out, asked.address, cuda=cuda, log=asked.log, way=asked.way)
            )
        else:
            executor = opened.enter_context(Local(asked.dataset, asked.out, asked.devices, asked.log, asked.way))
        todo = plan.todo
        progress = opened.enter_context(Progress(todo, len(plan.specs) - len(todo), images))
        limits = Limits(asked.most, asked.weights, budget)
        return Scheduler(plan.packs, executor, asked.out, leases, progress, limits).run()
