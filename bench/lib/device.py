"""A device's ceiling, and work made ready to be timed there."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fastcifar.system.measure import Clock, alternate

CEILING_BYTES = 1 << 30  # many times a GPU's cache
WARM_UP = 3  # calls before one is recorded: they compile, and fill the allocator's pools


class Bandwidth(NamedTuple):
    """Bytes per second that a device's memory moves."""

    copy: float
    """copying: bytes read and bytes written, together"""
    fill: float
    """filling: bytes written"""


def bandwidth(device: torch.device, size: int = CEILING_BYTES, calls: int = 16, repeats: int = 7) -> Bandwidth:
    """Measure it with two tensors of ``size`` bytes: the median of ``repeats`` turns of ``calls`` calls each."""
    source, target = (torch.full((size,), value, dtype=torch.uint8, device=device) for value in (1, 2))

    def copy() -> None:
        for _ in range(calls):
            target.copy_(source)

    def fill() -> None:
        for _ in range(calls):
            target.fill_(7)

    timings = alternate({"copy": copy, "fill": fill}, repeats, warmup=2, device=str(device))
    return Bandwidth(2 * size * calls / timings["copy"].median, size * calls / timings["fill"].median)


def recorded(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The call as a CUDA graph, replayed: the same work without what Python takes to launch it.

    The call must read and write the same memory each time and decide nothing on the host. The result is the tensor that
    every replay writes.
    """
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


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
