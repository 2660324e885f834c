"""How runs are trained, beside what they are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fastcifar.runs.spec import RunSpec

Watch = Callable[[Mapping[str, Any]], None]
"""a callback for each epoch's line of metrics.jsonl, the lines of earlier sessions included"""


def silent(text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Options:
    """Options of a training. A run's result depends on them by rounding at the most, and on ``tensors``, whose identity
    is a field of the spec.
    """

    mode: str = "none"
    """one of `compile.MODES`; for a session, also auto: the mode that a run was begun in, else the fastest one"""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """the weights that a pretrained network begins with, by name"""
    say: Callable[[str], None] = silent
    """a callback for what people should know: the mode that auto chose, memory that was short"""


Watches = Mapping[RunSpec, Watch]
