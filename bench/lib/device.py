"""A device's ceiling, and work made ready to be timed there."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fastcifar.system.cuda import recorded
from fastcifar.system.measure import Clock, alternate

CEILING_BYTES = 1 << 30  # many times a GPU's cache


class DeviceBandwidth(NamedTuple):
    """Bytes per second that a device's memory moves."""

    copy: float
    """copying: bytes read and bytes written, together"""
    fill: float
    """filling: bytes written"""


def bandwidth(device: torch.device, size: int = CEILING_BYTES, calls: int = 16, repeats: int = 7) -> DeviceBandwidth:
    """Measure it with two tensors of ``size`` bytes: the median of ``repeats`` turns of ``calls`` calls each."""
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
    """The call as a CUDA graph: the same work without the time that Python takes to launch it.

    The call is as `cuda.recorded` wants its work. The result is the tensor that every replay writes.
    """
    results: list[Tensor] = []
    replay = recorded(call, lambda: results.append(call()))

    def again() -> Tensor:
        replay()
        return results[-1]

    return again


def times_to_last(call: Callable[[], object], seconds: float, device: torch.device) -> int:
    """How often to call, so that it takes ``seconds`` or longer: a clock's and a synchronisation's share is small."""
    call()
    with Clock(str(device)) as clock:
        call()
    return max(1, math.ceil(seconds / clock.seconds))


def repeated(call: Callable[[], object], times: int) -> Callable[[], None]:
    """The call, so many times over."""

    def calls() -> None:
        for _ in range(times):
            call()

    return calls
