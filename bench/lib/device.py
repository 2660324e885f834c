"""The bandwidth of a device's memory, and helpers that prepare work for timing."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fastcifar.system.cuda import recorded
from fastcifar.system.measure import Clock, alternate

CEILING_BYTES = 1 << 30  # many times the size of a GPU's cache


class DeviceBandwidth(NamedTuple):
    """The bandwidth of a device's memory, in bytes a second."""

    copy: float
    """Copying: bytes read plus bytes written."""
    fill: float
    """Filling: bytes written."""


def bandwidth(device: torch.device, size: int = CEILING_BYTES, calls: int = 16, repeats: int = 7) -> DeviceBandwidth:
    """Measure the bandwidth with two tensors of ``size`` bytes: the median of ``repeats`` turns of ``calls`` calls."""
    source, target = (torch.full((size,), value, dtype=torch.uint8, device=device) for value in (1, 2))

    def copy() -> None:
        for _ in range(calls):
            target.copy_(source)

    def fill() -> None:
        for _ in range(calls):
            target.fill_(7)

    timings = alternate({"copy": copy, "fill": fill}, repeats, warmup=2, device=str(device))
    return DeviceBandwidth(2 * size * calls / timings["copy"].median, size * calls / timings["fill"].median)


def replayed(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Record a call as a CUDA graph and return a function that replays it, without Python's launch overhead.

    The call must be work that `cuda.recorded` accepts. The function returns the tensor that every replay writes.
    """
    results: list[Tensor] = []
    replay = recorded(call, lambda: results.append(call()))

    def again() -> Tensor:
        replay()
        return results[-1]

    return again


def times_to_last(call: Callable[[], object], seconds: float, device: torch.device) -> int:
    """Return how many calls take ``seconds`` or longer, so that clock and synchronisation take a small share."""
    call()
    with Clock(str(device)) as clock:
        call()
    return max(1, math.ceil(seconds / clock.seconds))


def repeated(call: Callable[[], object], times: int) -> Callable[[], None]:
    """Return a function that makes the call ``times`` times."""

    def calls() -> None:
        for _ in range(times):
            call()

    return calls
