"""The output of a grid on the terminal during training: one live table."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fastcifar.grid.messages import Began, Done, Ended, Epoch, Event, Lost, Said, Within
from fastcifar.runs.spec import RunSpec
from fastcifar.show.columns import Column, Fitted
from fastcifar.show.console import say
from fastcifar.show.progress import Sparse
from fastcifar.show.text import counted, duration

RECENT = 60.0  # seconds over which images/s are averaged
REFRESH = 0.25  # least seconds between two updates of the table


@dataclass
class _InWork:
    """The state of a worker's job."""

    way: str
    title: str
    within: str = ""
    """The latest report from within an epoch."""
    epochs: dict[str, int] = field(default_factory=dict)


class Progress:
    """A live table on standard error, shown if that is a terminal. A context manager, and the scheduler's callback."""

    def __init__(self, specs: Sequence[RunSpec], finished: int, images: int) -> None:
        """specs: the runs to train. finished: number of runs that were finished before. images: images of one epoch."""
        self._specs, self._before, self._images = {spec.run_id: spec for spec in specs}, finished, images
        self._ended_at: dict[str, int | None] = {}
        """The number of epochs of each run that ended, by run-id; None for a run that failed."""
        self._behind: dict[str, int] = {}
        """The number of finished epochs of each run, by run-id."""
        self._working: dict[str, _InWork] = {}
        self._best: tuple[float, str] | None = None
        self._recent: list[float] = []
        self._begun, self._epochs, self._packs = time.monotonic(), 0, 0
        self._refreshed = 0.0
        self._sparse = Sparse()
        self.shown = sys.stderr.isatty()
        self._live = Live(
            console=Console(stderr=True), auto_refresh=False, transient=True, get_renderable=self.table,
            redirect_stdout=False,  # the Ray executor has redirected it
        )  # fmt: skip

    def __enter__(self) -> "Progress":
        if self.shown:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.shown:
            self._live.stop()

    def __call__(self, worker: str, event: Event) -> None:
        """Update the table by an event of a worker."""
        match event:
            case Began():
                spec = self._specs[event.run_id]
                title = f"exp {spec.experiment} {spec.model}, batch {spec.batch_size}, {spec.protocol}"
                self._working[worker] = _InWork(event.way, title)
            case Epoch():
                self._epoch(worker, event)
            case Within():
                if worker in self._working:
                    self._working[worker].within = event.text
            case Ended():
                self._ended(event)
            case Done():
                self._packs += 1
                self._working.pop(worker, None)
            case Lost():
                had_work = self._working.pop(worker, None) is not None
                self._note(f"{event.reason}{'; its runs are tried again' if had_work else ''}")
            case Said():
                self._note(event.text)
            case _:
                pass
        if self.shown and time.monotonic() - self._refreshed > REFRESH:
            self._refreshed = time.monotonic()
            self._live.refresh()
        elif not self.shown:
            self._sparse.line(self._line)

    def _epoch(self, worker: str, event: Epoch) -> None:
        line = event.line
        self._behind[event.run_id] = line["epoch"]
        if worker in self._working:
            job = self._working[worker]
            job.epochs[event.run_id] = line["epoch"]
            job.within = ""
        if event.new:
            self._epochs += 1
            self._recent.append(time.monotonic())
        accuracy = line["val_accuracy"]
        if accuracy is not None and (self._best is None or accuracy > self._best[0]):
            self._best = (accuracy, event.run_id)

    def _ended(self, event: Ended) -> None:
        self._ended_at[event.run_id] = None if event.summary is None else event.summary["epochs"]
        for job in self._working.values():
            job.epochs.pop(event.run_id, None)
        if event.summary is None:
            self._note(f"{event.run_id} failed: {event.error}")
        elif event.summary["status"] == "diverged":
            self._note(f"{event.run_id} diverged after {counted(event.summary['epochs'], 'epoch')}")

    def _note(self, text: str) -> None:
        if self.shown:
            self._live.console.print(Text(text))
        else:
            say(text, stderr=True)

    def rate(self) -> float:
        """Return the images/s of the last RECENT seconds, over all runs."""
        now = time.monotonic()
        self._recent = [when for when in self._recent if now - when < RECENT]
        return len(self._recent) * self._images / max(1.0, min(RECENT, now - self._begun))

    def seconds_left(self) -> float | None:
        """Estimate the remaining seconds from the average speed so far; None before the first epoch.

        The runs that ended give the share of their epochs that runs use before they stop.
        """
        if not self._epochs:
            return None
        shares = [epochs / self._specs[run_id].epochs for run_id, epochs in self._ended_at.items() if epochs]
        share = sum(shares) / len(shares) if shares else 1.0
        left = sum(
            max(0.0, share * spec.epochs - self._behind.get(run_id, 0))
            for run_id, spec in self._specs.items()
            if run_id not in self._ended_at
        )
        return left * (time.monotonic() - self._begun) / self._epochs

    def table(self) -> Group:
        """Return a table of the running jobs, and a line with the progress of the grid."""
        jobs, spans = self._working.values(), []
        for job in jobs:
            epochs = sorted(set(job.epochs.values()))
            spans.append("" if not epochs else str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]}-{epochs[-1]}")
        columns = (
            Column("worker", list(self._working), number=False),
            Column("network", [job.title for job in jobs], number=False),
            Column("way", [job.way for job in jobs], number=False),
            Column("runs", [str(len(job.epochs)) for job in jobs]),
            Column("epoch", spans),
        )
        table = Fitted(columns, "In work")
        within = [f"{worker}: {job.within}" for worker, job in self._working.items() if job.within]
        return Group(table, Text("\n".join([*within, self._line()])))

    def _line(self) -> str:
        """Return the progress of the grid in one line."""
        failed = sum(epochs is None for epochs in self._ended_at.values())
        finished, left = self._before + len(self._ended_at) - failed, self.seconds_left()
        parts = [
            f"{finished} of {counted(self._before + len(self._specs), 'run')} finished",
            *([f"{failed} failed"] if failed else []),
            f"{counted(self._packs, 'pack')} done",
            counted(self._epochs, "epoch"),
            f"{self.rate():,.0f} images/s over all runs",
            *([] if self._best is None else [f"best {100 * self._best[0]:.2f} % ({self._best[1]})"]),
            *([] if left is None else [f"about {duration(left)} left"]),
        ]
        return ", ".join(parts)
