"""Progress bars: on standard error, and only where a person is looking at it."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


def track(
    iterable: Iterable[T], description: str, total: float | None = None, size: Callable[[T], float] | None = None
) -> Iterator[T]:
    """Yield the items of ``iterable`` under a progress bar; silent where standard error is not a terminal.

    total: what the items add up to (their number, unless ``size`` says what one item counts for); by default
    ``len(iterable)`` where there is one and ``size`` is not given, otherwise the bar only shows that work goes on.
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
