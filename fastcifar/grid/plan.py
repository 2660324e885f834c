"""A grid from its options to its results: the options, the plan and the training."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.grid.leases import Leases
from fastcifar.grid.local import Local
from fastcifar.grid.packing import Pack, Runs, packs_of, seconds_of, unfinished
from fastcifar.grid.progress import Progress, plan_table
from fastcifar.grid.scheduler import Executor, Limits, Results, Scheduler
from fastcifar.grid.worker import CALIBRATION
from fastcifar.models import is_published
from fastcifar.packs.choice import Calibration, Measured
from fastcifar.packs.shape import Shape
from fastcifar.packs.stacked import can_stack
from fastcifar.packs.ways import WAYS, possible
from fastcifar.runs.code import changed_since
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.logs import log_of
from fastcifar.runs.spec import RunSpec
from fastcifar.show.text import counted, duration
from fastcifar.system import machine

EXECUTORS = ("local", "ray")
PACK = {"cpu": 12, "cuda": 48}  # runs of a pack at most, unless --pack gives another number
MEMORY_SHARE = 0.8  # share of the device's memory that a pack may take


@dataclass(frozen=True)
class Asked:
    """The options of a grid's training. Raises UsageError for an unknown executor, way or log."""

    dataset: Dataset
    out: Path
    device: torch.device
    executor: str = "local"
    address: str | None = None
    way: str = "auto"
    pack: int | None = None
    weights: str | None = None
    log: str = "none"
    every_device: bool = True
    """Whether to train on all CUDA devices of this machine, where ``device`` is a CUDA device."""

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise UsageError(f"--executor {self.executor!r} is not one of {', '.join(EXECUTORS)}")
        if self.way not in ("auto", *WAYS):
            raise UsageError(f"--way {self.way!r} is not one of auto, {', '.join(WAYS)}")
        if self.address is not None and self.executor != "ray":
            raise UsageError("--address is the address of a Ray cluster; add --executor ray")
        log_of(self.log)

    @property
    def devices(self) -> list[str]:
        """The devices of the workers on this machine, one for each worker."""
        if self.device.type == "cuda" and self.every_device:
            return [f"cuda:{n}" for n in range(torch.cuda.device_count())]
        return [str(self.device)]

    @property
    def most(self) -> int:
        """The largest number of runs in a pack, if memory sets no lower limit."""
        return self.pack or PACK[self.device.type]


@dataclass(frozen=True)
class Plan:
    """The plan of a grid: all its runs, the packs of its unfinished runs, and the measurements of their shapes."""

    specs: tuple[RunSpec, ...]
    packs: tuple[Pack, ...]
    measured: Mapping[Shape, Measured]
    asked: Asked

    @property
    def todo(self) -> list[RunSpec]:
        """The unfinished runs."""
        return [spec for pack in self.packs for spec in pack.specs]

    def rows(self) -> list[tuple[Pack, int, Measured, tuple[float, float]]]:
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

    def table(self) -> Table:
        """Return the plan as a table for a terminal."""
        return plan_table(self.rows())

    def sentence(self) -> str:
        """Return a sentence with the numbers of runs and packs, the devices and the duration."""
        finished, (low, high) = len(self.specs) - len(self.todo), self.seconds()
        already = f", {finished} of them finished already" if finished else ""
        return (
            f"{counted(len(self.specs), 'run')}{already}; {counted(len(self.packs), 'pack')} to train on "
            f"{', '.join(self.asked.devices)}: {duration(low)} if all stop early, {duration(high)} if none does"
        )

    def plain(self) -> dict[str, Any]:
        """Return the plan as plain data for scripts, ready for JSON."""
        low, high = self.seconds()
        packs = [
            {"runs": [spec.run_id for spec in pack.specs], **pack.shape._asdict(), "way": self.measured[pack.shape].way}
            for pack in self.packs
        ]
        return {"runs": len(self.specs), "unfinished": len(self.todo), "packs": packs, "seconds": [low, high]}

    def summaries(self, out: Path) -> list[tuple[RunSpec, dict[str, Any]]]:
        """Return the finished runs below ``out``, with their summaries."""
        summaries = [(spec, RunDirectory.of(spec, out).summary()) for spec in self.specs]
        return [(spec, summary) for spec, summary in summaries if summary is not None]


def plan(asked: Asked, runs: Runs, say: Callable[[str], None] = lambda text: None) -> Plan:
    """Put the unfinished runs into packs. Shapes without a kept measurement are measured first.

    Raises UsageError where some runs cannot be trained in the way of ``asked``.
    """
    todo = unfinished(runs.specs, asked.out)
    for changed in filter(None, (changed_since(spec, asked.out) for spec in todo)):
        say(changed)
    calibration, measured = Calibration(asked.out / CALIBRATION), {}
    for pack in packs_of(todo, lambda shape: len(todo)):
        if not is_published(pack.shape.model) and (reason := can_stack(pack.specs[0])) is not None:
            say(f"{pack.title}: one run after another, since {reason}")
        of_shape = calibration.of(pack.specs[0], asked.dataset, asked.device, asked.most, say)
        if asked.way != "auto":
            if asked.way not in possible(pack.specs[0], asked.device):
                raise UsageError(
                    f"--way {asked.way}: {pack.shape.model} cannot be trained in this way on {asked.device}; "
                    f"choose one of auto, {', '.join(possible(pack.specs[0], asked.device))}"
                )
            of_shape = replace(of_shape, way=asked.way)
        measured[pack.shape] = of_shape
    packs = packs_of(todo, lambda shape: _most(shape, measured[shape], asked))
    return Plan(runs.specs, tuple(packs), measured, asked)


def _most(shape: Shape, measured: Measured, asked: Asked) -> int:
    """Return the largest number of runs in a pack of this shape, so that the pack fits in the device's memory."""
    if is_published(shape.model):
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
