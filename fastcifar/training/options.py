"""Options of training that are not part of a run's specification."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastcifar.runs.spec import RunSpec
from fastcifar.training.pace import Tell

if TYPE_CHECKING:
    from torch import Tensor

Watch = Callable[[Mapping[str, Any]], None]
"""A callback for each epoch's line of metrics.jsonl, including the lines of earlier sessions."""


def silent(text: str) -> None:
    """Ignore a message."""


@dataclass(frozen=True)
class Options:
    """Options of a training.

    ``mode`` changes a run's result only by rounding. ``tensors`` are the initial weights of a pretrained network; the
    spec's field ``weights`` identifies them by a hash.
    """

    mode: str = "none"
    """One of `modes.MODES`. A session also takes auto: the mode in which a run began, or else the fastest mode."""
    tensors: Mapping[str, "Tensor"] = field(default_factory=dict)
    """The initial weights of a pretrained network, by name."""
    say: Callable[[str], None] = silent
    """A callback for messages to people, for example the mode that auto chose, or a lack of memory."""
    tell: Tell | None = None
    """A callback for reports from within an epoch."""


Watches = Mapping[RunSpec, Watch]
