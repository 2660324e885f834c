"""Hands packs to workers until every run is finished, whoever finishes it; writes down what failed."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fastcifar.errors import FastcifarError
from fastcifar.grid.leases import Leases
from fastcifar.grid.messages import Began, Done, Ended, Epoch, Event, Files, Job, Lost, Ready, Said
from fastcifar.grid.packing import Pack
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.failure import give_up, retry
from fastcifar.runs.spec import RunSpec

TICK = 1.0  # seconds between looks at the time, and at what others do, when no worker says anything
MOST_LOSSES = 3  # of the worker that trains a run by itself, until that run has failed
LOOK = 2.0  # seconds between looks at runs that another process trains


class Executor(Protocol):
    """Workers, wherever they are: `grid.local.Local` or `grid.ray.Cluster`."""

    def start(self, worker: str, job: Job) -> None: ...

    def event(self, timeout: float) -> tuple[str, Event] | None: ...

    def stop(self) -> None: ...

    def alive(self) -> int:
        """Workers that are there, or being started."""
        ...


@dataclass
class Results:
    """What a grid has come to, by run-id."""

    finished: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[RunSpec] = field(default_factory=list)
    """not finished when the time was up"""
    seconds: float = 0.0
    """from the first pack to the last"""
    own_seconds: float = 0.0
    """of these, the scheduler's own work: leases, files, tables"""


@dataclass(frozen=True)
class Limits:
    """What holds for every job of a grid."""

    most: int = 1
    """runs of a pack at the most, as its way was measured with"""
    weights: str | None = None
    """of experiment 4, as --weights"""
    budget: float | None = None
    """seconds after which the runs in work end at their next epoch"""


class Scheduler:
    """Trains packs on an executor. watch: told every event, with its worker, after it was dealt with."""

    def __init__(
        self,
        packs: Sequence[Pack],
        executor: Executor,
        out: Path,
        leases: Leases,
        watch: Callable[[str, Event], None] = lambda worker, event: None,
        limits: Limits = Limits(),
    ) -> None:
        self._executor, self._out, self._leases, self._watch = executor, out, leases, watch
        self._limits = limits
        self._specs = {spec.run_id: spec for pack in packs for spec in pack.specs}
        self._waiting = deque(packs)
        self._elsewhere: list[Pack] = []
        """of runs that another process trains"""
        self._idle: list[str] = []
        self._working: dict[str, Job] = {}
        self._open: dict[int, dict[str, RunSpec]] = {}
        """of each job, the runs that have not ended"""
        self._losses: Counter[str] = Counter()
        self._jobs, self._looked = 0, 0.0
        self._until = None if limits.budget is None else time.monotonic() + limits.budget
        self._stopping = False
        self.results = Results()

    def run(self) -> Results:
        """Until every run is finished or failed, or the time is up. Raises FastcifarError when no worker is left."""
        begun = time.perf_counter()
        while self._waiting or self._working or self._elsewhere:
            started = time.perf_counter()
            self._mind_the_time()
            while self._idle and (job := self._next()) is not None:
                worker = self._idle.pop(0)
                self._working[worker] = job
                self._executor.start(worker, job)
            if self._stopping and not self._working:
                break
            self.results.own_seconds += time.perf_counter() - started
            told = self._executor.event(TICK)
            started = time.perf_counter()
            if told is not None:
                self._handle(*told)
                self._watch(*told)
            self.results.own_seconds += time.perf_counter() - started
        self.results.seconds = time.perf_counter() - begun
        ended = self.results.finished.keys() | self.results.failed.keys()
        self.results.left = [spec for run_id, spec in self._specs.items() if run_id not in ended]
        return self.results

    def stop(self) -> None:
        """Begin nothing more; what is trained ends at its next epoch."""
        if not self._stopping:
            self._stopping = True
            self._executor.stop()

    def _mind_the_time(self) -> None:
        if self._until is not None and time.monotonic() > self._until:
            self.stop()

    def _next(self) -> Job | None:
        """The next pack's runs that are neither finished nor anybody else's, their leases taken."""
        if not self._waiting and time.monotonic() - self._looked >= LOOK:
            self._looked = time.monotonic()
            self._waiting, self._elsewhere = deque(self._elsewhere), []
        while self._waiting and not self._stopping:
            pack = self._waiting.popleft()
            taken = set(self._leases.take(spec.run_id for spec in pack.specs))
            mine, others = [], []
            for spec in pack.specs:
                directory = RunDirectory.of(spec, self._out)
                summary = directory.summary()  # after the lease: nobody finishes it from here on
                if summary is not None:
                    self.results.finished[spec.run_id] = summary
                    self._leases.end([spec.run_id])
                elif spec.run_id in taken:
                    retry(directory)
                    mine.append(spec)
                else:
                    others.append(spec)
            if others:
                self._elsewhere.append(Pack(tuple(others)))
                self._looked = time.monotonic()
            if mine:
                self._jobs += 1
                self._open[self._jobs] = {spec.run_id: spec for spec in mine}
                return Job(self._jobs, tuple(mine), self._limits.most, self._limits.weights)
        return None

    def _handle(self, worker: str, event: Event) -> None:
        match event:
            case Ready():
                self._idle.append(worker)
            case Ended():
                self._ended(event)
            case Files():
                RunDirectory(self._out / f"exp{event.experiment}" / event.run_id).receive(event.contents)
            case Done():
                rest = self._open.pop(self._working.pop(worker).number)
                self._leases.end(rest)  # they were stopped
                self._idle.append(worker)
            case Lost():
                self._lost(worker, event)
            case Began() | Epoch() | Said():
                pass

    def _ended(self, event: Ended) -> None:
        spec = self._open[event.job].pop(event.run_id)
        if event.summary is not None:
            self.results.finished[event.run_id] = event.summary
        else:
            self._failed(spec, event.error or "no reason was given")
        self._leases.end([event.run_id])

    def _failed(self, spec: RunSpec, error: str) -> None:
        self.results.failed[spec.run_id] = error
        give_up(RunDirectory.of(spec, self._out), error)

    def _lost(self, worker: str, event: Lost) -> None:
        """Its runs are tried again in halves, as too little memory is the likeliest cause; one alone fails."""
        if worker in self._idle:
            self._idle.remove(worker)
        job = self._working.pop(worker, None)
        rest = [] if job is None else list(self._open.pop(job.number).values())
        self._leases.end(spec.run_id for spec in rest)
        self._losses.update(spec.run_id for spec in rest)
        if len(rest) == 1 and self._losses[rest[0].run_id] >= MOST_LOSSES:
            self._failed(rest[0], f"{event.reason}, for the {MOST_LOSSES}rd time")
        elif rest:
            half = -(-len(rest) // 2)
            self._waiting.extendleft(Pack(tuple(part)) for part in (rest[half:], rest[:half]) if part)
        if not self._executor.alive():
            raise FastcifarError(f"{event.reason}, and no other worker is left; the same command goes on from there")
