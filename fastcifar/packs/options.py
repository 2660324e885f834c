"""The options of a pack's training, and the callbacks for its runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastcifar.runs.spec import RunSpec
from fastcifar.training.options import Options

Outcome = dict[str, Any] | Exception
"""A run's summary, or the exception that made it fail."""


@dataclass(frozen=True)
class PackOptions(Options):
    """Options of a pack's training: how its runs train together, besides how each run is trained."""

    way: str = "serial"
    """One of `names.WAYS`."""


@dataclass(frozen=True)
class Callbacks:
    """The callbacks for the runs of a pack. They are called from any thread."""

    watch: Callable[[RunSpec, Mapping[str, Any]], None] = lambda spec, line: None
    """Called with each epoch's line of metrics.jsonl, the lines of earlier sessions first. It may raise `Stopped`."""
    ended: Callable[[RunSpec, Outcome], None] = lambda spec, outcome: None
    """Called once for each run, with its outcome."""


class Stopped(Exception):
    """Raised by a callback to end the training of its pack. All finished epochs are kept."""
