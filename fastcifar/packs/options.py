"""How packs are trained, and who is called back for their runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastcifar.runs.spec import RunSpec
from fastcifar.training.options import Options

Outcome = dict[str, Any] | Exception
"""a run's summary, or the exception that made it fail"""


@dataclass(frozen=True)
class PackOptions(Options):
    """Options of a pack's training: how its runs train together, besides how each run is trained."""

    way: str = "serial"
    """one of `ways.WAYS`"""


@dataclass(frozen=True)
class Callbacks:
    """The callbacks for the runs of a pack. They are called from any thread."""

    watch: Callable[[RunSpec, Mapping[str, Any]], None] = lambda spec, line: None
    """called with each epoch's line of metrics.jsonl, the lines of earlier sessions first; it may raise `Stopped`"""
    ended: Callable[[RunSpec, Outcome], None] = lambda spec, outcome: None
    """called once for each run, with its outcome"""


class Stopped(Exception):
    """Raised by a watch to end the training of its pack; all that was trained is kept."""
