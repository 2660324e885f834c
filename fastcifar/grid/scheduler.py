"""Give packs to workers until every run is finished, here or by another process. Failures are written to disk."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fastcifar.errors import FastcifarError
from fastcifar.grid.leases import Leases
from fastcifar.grid.messages import Began, Done, Ended, Epoch, Event, Job, Lost, Ready, Said, SentFiles, Within
from fastcifar.grid.packing import Pack
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.failure import give_up, retry
from fastcifar.runs.spec import RunSpec

TICK = 1.0  # seconds to wait for an event before checking the budget and the other processes again
MOST_LOSSES = 3  # lost workers after which a run that trains alone has failed
LOOK = 2.0  # seconds between two checks of the runs that another process trains


class Executor(Protocol):
    """A group of workers: `grid.local.Local` or `grid.ray.Cluster`."""

    def start(self, worker: str, job: Job) -> None: ...

    def event(self, timeout: float) -> tuple[str, Event] | None: ...

    def stop(self) -> None: ...

    def alive(self) -> int:
        """Return the number of workers that are running or starting."""
        ...


@dataclass
class Results:
    """The results of a grid. finished: summaries by run-id. failed: error messages by run-id."""

    finished: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[RunSpec] = field(default_factory=list)
    """The runs that had not ended when the grid stopped."""
    seconds: float = 0.0
    """Duration of the grid in seconds."""
    own_seconds: float = 0.0
    """Part of ``seconds`` that the scheduler itself worked: leases, files, tables."""


@dataclass(frozen=True)
class Limits:
    """The limits and options of all jobs of a grid."""

    most: int = 1
    """The largest number of runs in a pack; the ways were measured with it."""
    weights: str | None = None
    """The value of --weights, for experiment 4."""
    budget: float | None = None
    """Seconds after which running jobs stop at the end of their epoch; None: no limit."""


class Scheduler:
    """A scheduler that trains packs on an executor. watch: called with worker and event after each event is handled."""

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
        """Packs of runs that another process trains."""
        self._idle: list[str] = []
        self._working: dict[str, Job] = {}
        self._open: dict[int, dict[str, RunSpec]] = {}
        """The runs of each job that have not ended, by job number and run-id."""
        self._losses: Counter[str] = Counter()
        self._jobs, self._looked = 0, 0.0
        self._until = None if limits.budget is None else time.monotonic() + limits.budget
        self._stopping = False
        self.results = Results()

    def run(self) -> Results:
        """Train until every run is finished or failed, or the budget is used up.

        Raises FastcifarError if no worker is left.
        """
        begun = time.perf_counter()
        while self._waiting or self._working or self._elsewhere:
            started = time.perf_counter()
            self._check_budget()
            while self._idle and (job := self._next()) is not None:
                worker = self._idle.pop(0)
                self._working[worker] = job
                self._executor.start(worker, job)
            if self._stopping and not self._working:
                break
            self.results.own_seconds += time.perf_counter() - started
            received = self._executor.event(TICK)
            started = time.perf_counter()
            if received is not None:
                self._handle(*received)
                self._watch(*received)
            self.results.own_seconds += time.perf_counter() - started
        self.results.seconds = time.perf_counter() - begun
        ended = self.results.finished.keys() | self.results.failed.keys()
        self.results.left = [spec for run_id, spec in self._specs.items() if run_id not in ended]
        return self.results

    def stop(self) -> None:
        """Start no more jobs; running jobs stop at the end of their epoch."""
        if not self._stopping:
            self._stopping = True
            self._executor.stop()

    def _check_budget(self) -> None:
        if self._until is not None and time.monotonic() > self._until:
            self.stop()

    def _next(self) -> Job | None:
        """Take the leases of a waiting pack's runs and return a job of them; None where no run is free.

        Finished runs go to the results, and runs of other processes wait.
        """
        if not self._waiting and time.monotonic() - self._looked >= LOOK:
            self._looked = time.monotonic()
            self._waiting, self._elsewhere = deque(self._elsewhere), []
        while self._waiting and not self._stopping:
            pack = self._waiting.popleft()
            taken = set(self._leases.take(spec.run_id for spec in pack.specs))
            mine, others = [], []
            for spec in pack.specs:
                directory = RunDirectory.of(spec, self._out)
                summary = directory.summary()  # read under the lease: no other process can finish the run now
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
            case SentFiles():
                RunDirectory(self._out / f"exp{event.experiment}" / event.run_id).receive(event.contents)
            case Done():
                rest = self._open.pop(self._working.pop(worker).number)
                self._leases.end(rest)  # runs that were stopped before their end
                self._idle.append(worker)
            case Lost():
                self._lost(worker, event)
            case Began() | Epoch() | Within() | Said():
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
        """Retry a lost worker's runs in halves, as too little memory is the likeliest cause.

        A run that trained alone fails after MOST_LOSSES lost workers.
        """
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
            raise FastcifarError(f"{event.reason}, and no other worker is left; run the same command again to resume")
