"""Progress on standard error: bars on a terminal, and a line from time to time where nobody looks."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fastcifar.show.console import note
from fastcifar.show.text import duration

T = TypeVar("T")
EVERY = 30.0
"""The least number of seconds between two lines in a log file."""


class Sparse:
    """Lines for a log file, for example of a cluster's job: at most one in EVERY seconds."""

    def __init__(self, write: Callable[[str], None] = note) -> None:
        self._write, self._last = write, time.monotonic()

    def line(self, text: Callable[[], str], now: bool = False) -> None:
        """Write a line if the last one is old enough. text: makes the line. now: write it in any case."""
        if now or time.monotonic() - self._last >= EVERY:
            self._write(text())
            self._last = time.monotonic()


def track(
    iterable: Iterable[T], description: str, total: float | None = None, size: Callable[[T], float] | None = None
) -> Iterator[T]:
    """Yield the items of ``iterable`` under a progress bar, or with a line from time to time without a terminal.

    size: the amount that one item counts for; by default 1. total: the sum over all items; by default
    ``len(iterable)`` if it has a length and ``size`` is None. Without a total, the bar only shows that work continues.
    """
    if total is None and size is None and isinstance(iterable, Sized):
        total = len(iterable)
    if not sys.stderr.isatty():
        yield from _with_lines(iterable, description, total, size)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        for item in iterable:
            yield item
            progress.advance(task, 1 if size is None else size(item))


def _with_lines(
    iterable: Iterable[T], description: str, total: float | None, size: Callable[[T], float] | None
) -> Iterator[T]:
    sparse, started, done = Sparse(), time.monotonic(), 0.0

    def text() -> str:
        spent = time.monotonic() - started
        if not total or not done:
            return f"{description}: {duration(spent)} so far"
        return f"{description}: {100 * done / total:.0f} %, about {duration(spent * (total - done) / done)} left"

    for item in iterable:
        yield item
        done += 1 if size is None else size(item)
        sparse.line(text)
