"""Progress bars on standard error, shown only in a terminal."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


def track(
    iterable: Iterable[T], description: str, total: float | None = None, size: Callable[[T], float] | None = None
) -> Iterator[T]:
    """Yield the items of ``iterable`` under a progress bar; show no bar if standard error is not a terminal.

    size: the amount that one item counts for; by default 1. total: the sum over all items; by default
    ``len(iterable)`` if it has a length and ``size`` is None. Without a total, the bar only shows that work continues.
    """
    if not sys.stderr.isatty():
        yield from iterable
        return
    if total is None and size is None and isinstance(iterable, Sized):
        total = len(iterable)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        for item in iterable:
            yield item
            progress.advance(task, 1 if size is None else size(item))
