"""The output of a grid on the terminal: its plan and, during training, one live table."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fastcifar.grid.messages import Began, Done, Ended, Epoch, Event, Lost, Said
from fastcifar.grid.packing import Pack
from fastcifar.packs.choice import Measured
from fastcifar.runs.spec import RunSpec
from fastcifar.show.console import say
from fastcifar.show.text import counted, duration

RECENT = 60.0  # seconds over which images/s are averaged
REFRESH = 0.25  # least seconds between two updates of the table


def plan_table(rows: Sequence[tuple[Pack, int, Measured, tuple[float, float]]]) -> Table:
    """Return the plan as a table with one line for each shape. rows: as `Plan.rows` returns them."""
    table = Table(title="Plan")
    for column in ("experiment", "network", "protocol", "batch", "precision"):
        table.add_column(column)
    for column in ("runs", "packs", "way, and images/s by measurement", "MiB a run", "time"):
        table.add_column(column, justify="right", overflow="fold")
    for pack, packs, measured, (earliest, latest) in rows:
        shape = pack.shape
        ways = "\n".join(
            f"{'> ' if way == measured.way else ''}{way} {rate:,.0f}" for way, rate in measured.images_per_s.items()
        )
        table.add_row(
            str(shape.experiment), shape.model, shape.protocol, str(shape.batch_size), shape.precision,
            str(len(pack.specs)), str(packs), ways, f"{measured.run_bytes / 2**20:,.0f}",
            f"{duration(earliest)} to {duration(latest)}",
        )  # fmt: skip
    return table


@dataclass
class _InWork:
    """The state of a worker's job."""

    way: str
    title: str = ""
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
        self.shown = sys.stderr.isatty()
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True, get_renderable=self.table)

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
                self._working[worker] = _InWork(event.way)
            case Epoch():
                self._epoch(worker, event)
            case Ended():
                self._ended(event)
            case Done():
                self._packs += 1
                self._working.pop(worker, None)
            case Lost():
                self._working.pop(worker, None)
                self._note(f"{event.reason}; its runs are tried again")
            case Said():
                self._note(event.text)
            case _:
                pass
        if self.shown and time.monotonic() - self._refreshed > REFRESH:
            self._refreshed = time.monotonic()
            self._live.refresh()

    def _epoch(self, worker: str, event: Epoch) -> None:
        spec, line = self._specs[event.run_id], event.line
        self._behind[event.run_id] = line["epoch"]
        if worker in self._working:
            job = self._working[worker]
            job.title = f"exp {spec.experiment} {spec.model}, batch {spec.batch_size}, {spec.protocol}"
            job.epochs[event.run_id] = line["epoch"]
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
        table = Table("worker", "network", "way", "runs", "epoch", title="In work")
        for worker, job in self._working.items():
            epochs = sorted(set(job.epochs.values()))
            span = "" if not epochs else str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]}-{epochs[-1]}"
            table.add_row(worker, job.title, job.way, str(len(job.epochs)), span)
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
        return Group(table, Text(", ".join(parts)))
