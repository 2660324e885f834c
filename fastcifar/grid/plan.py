"""A grid from its options to its results: what is asked, its plan, and carrying it out."""

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
from fastcifar.models import MODELS
from fastcifar.packs.choice import Calibration, Measured
from fastcifar.packs.shape import Shape
from fastcifar.packs.ways import WAYS, possible
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec
from fastcifar.runs.tensorboard import log_of
from fastcifar.show.text import counted, duration
from fastcifar.system import machine

EXECUTORS = ("local", "ray")
PACK = {"cpu": 12, "cuda": 48}  # runs, at most, unless asked for
MEMORY_SHARE = 0.8  # of the device's, for a pack


@dataclass(frozen=True)
class Asked:
    """What a grid is to be trained with. Raises UsageError for what does not exist."""

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
    """where the device is CUDA: on all there are"""

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise UsageError(f"--executor {self.executor!r} is not one of {', '.join(EXECUTORS)}")
        if self.way not in ("auto", *WAYS):
            raise UsageError(f"--way {self.way!r} is not one of auto, {', '.join(WAYS)}")
        if self.address is not None and self.executor != "ray":
            raise UsageError("--address is that of a Ray cluster; give --executor ray too")
        log_of(self.log)

    @property
    def devices(self) -> list[str]:
        """One for each worker of this machine."""
        if self.device.type == "cuda" and self.every_device:
            return [f"cuda:{n}" for n in range(torch.cuda.device_count())]
        return [str(self.device)]

    @property
    def most(self) -> int:
        """Runs of a pack, memory apart."""
        return self.pack or PACK[self.device.type]


@dataclass(frozen=True)
class Plan:
    """What is to be trained: the grid's runs, those not finished in packs, and what was measured of their shapes."""

    specs: tuple[RunSpec, ...]
    packs: tuple[Pack, ...]
    measured: Mapping[Shape, Measured]
    asked: Asked

    @property
    def todo(self) -> list[RunSpec]:
        """The runs that are not finished."""
        return [spec for pack in self.packs for spec in pack.specs]

    def rows(self) -> list[tuple[Pack, int, Measured, tuple[float, float]]]:
        """For each shape its runs as one pack, the number of its packs, and the seconds that they may take."""
        devices, rows = len(self.asked.devices), []
        for shape, measured in self.measured.items():
            packs = [pack for pack in self.packs if pack.shape == shape]
            together = Pack(tuple(spec for pack in packs for spec in pack.specs))
            rows.append((together, len(packs), measured, seconds_of(together, measured, self.asked.dataset, devices)))
        return rows

    def seconds(self) -> tuple[float, float]:
        """Of all, at the least and at most."""
        spans = [span for *_, span in self.rows()]
        return sum(low for low, _ in spans), sum(high for _, high in spans)

    def table(self) -> Table:
        """For people."""
        return plan_table(self.rows())

    def sentence(self) -> str:
        """How much is to be done."""
        finished, (low, high) = len(self.specs) - len(self.todo), self.seconds()
        already = f", {finished} of them finished already" if finished else ""
        return (
            f"{counted(len(self.specs), 'run')}{already}; {counted(len(self.packs), 'pack')} to train on "
            f"{', '.join(self.asked.devices)}: {duration(low)} if all stop early, {duration(high)} if none does"
        )

    def plain(self) -> dict[str, Any]:
        """For scripts."""
        low, high = self.seconds()
        packs = [
            {"runs": [spec.run_id for spec in pack.specs], **pack.shape._asdict(), "way": self.measured[pack.shape].way}
            for pack in self.packs
        ]
        return {"runs": len(self.specs), "unfinished": len(self.todo), "packs": packs, "seconds": [low, high]}

    def summaries(self, out: Path) -> list[tuple[RunSpec, dict[str, Any]]]:
        """The runs that are finished, with their summaries."""
        found = [(spec, RunDirectory.of(spec, out).summary()) for spec in self.specs]
        return [(spec, summary) for spec, summary in found if summary is not None]


def plan(asked: Asked, runs: Runs, say: Callable[[str], None] = lambda text: None) -> Plan:
    """Look what is finished, measure the shapes of the rest where that was not done before, and make packs.

    Raises UsageError where a way is asked for that some runs cannot be trained in.
    """
    todo = unfinished(runs.specs, asked.out)
    calibration, measured = Calibration(asked.out / CALIBRATION), {}
    for pack in packs_of(todo, lambda shape: len(todo)):
        found = calibration.of(pack.specs[0], asked.dataset, asked.device, asked.most, say)
        if asked.way != "auto":
            if asked.way not in possible(pack.specs[0], asked.device):
                raise UsageError(f"--way {asked.way}: {pack.shape.model} cannot be trained so on {asked.device}")
            found = replace(found, way=asked.way)
        measured[pack.shape] = found
    packs = packs_of(todo, lambda shape: _most(shape, measured[shape], asked))
    return Plan(runs.specs, tuple(packs), measured, asked)


def _most(shape: Shape, measured: Measured, asked: Asked) -> int:
    """Runs of a pack: no more than fit into the device's memory."""
    if shape.model not in MODELS:
        return asked.most if shape.tune == "head" else 1
    total = machine.memory_bytes()
    if asked.device.type == "cuda":
        total = torch.cuda.get_device_properties(asked.device).total_memory
    return max(1, min(asked.most, int(MEMORY_SHARE * total / max(1, measured.run_bytes))))


def train(asked: Asked, plan: Plan, budget: float | None = None) -> Results:
    """Carry a plan out. budget: seconds after which the runs in work end at their next epoch, to go on another time."""
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
