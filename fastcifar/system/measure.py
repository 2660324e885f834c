"""Clocks, memory and the machine: what a measurement is made with and must carry.

Seconds, bytes and bytes per second throughout. Nothing here imports torch unless a CUDA device is to be timed.
"""

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from fastcifar.errors import UsageError
from fastcifar.system import machine

T = TypeVar("T")
PACKAGES = ("torch", "torchvision", "numba", "numpy", "triton", "ffcv")
DALI_BUILDS = ("nvidia-dali-cuda130", "nvidia-dali-cuda120", "nvidia-dali-cuda110")


class Clock:
    """``with Clock() as clock: ...``, then ``clock.seconds`` (wall) and ``clock.cpu_seconds``.

    The CPU seconds are those of all threads of this process, not of its children. With ``device="cuda"`` (or
    ``"cuda:1"``) work queued on that device is waited for at both ends.
    """

    seconds: float
    cpu_seconds: float

    def __init__(self, device: str = "cpu") -> None:
        self._device = device

    def __enter__(self) -> "Clock":
        self._synchronise()
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._synchronise()
        self.seconds = time.perf_counter() - self._wall
        self.cpu_seconds = time.process_time() - self._cpu

    def _synchronise(self) -> None:
        if self._device != "cpu":
            import torch

            torch.cuda.synchronize(self._device)


def rotated(items: Sequence[T], round_: int) -> list[T]:
    """The items in the order in which they take their turns in a round, counted from 0: each round begins with another
    item, so that none is always the first.
    """
    first = round_ % len(items)
    return [*items[first:], *items[:first]]


@dataclass(frozen=True)
class Timing:
    """The measured repeats of one contestant, in the order they were run: wall seconds and CPU seconds each."""

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]

    @property
    def repeats(self) -> int:
        return len(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def min(self) -> float:
        return min(self.seconds)

    @property
    def max(self) -> float:
        return max(self.seconds)


def alternate(
    contestants: Mapping[str, Callable[[], object]], repeats: int = 5, warmup: int = 1, device: str = "cpu"
) -> dict[str, Timing]:
    """Time the contestants in turn, ``repeats`` rounds after ``warmup`` rounds that are not timed.

    The order is rotated by one each round: no contestant is always the first, and a machine that grows slower or
    faster meanwhile favours none. ``device`` is Clock's. Raises UsageError for no contestants, no repeats or a
    negative warm-up.
    """
    if not contestants or repeats < 1 or warmup < 0:
        raise UsageError(
            f"cannot time {len(contestants)} contestants, {repeats} repeats, warm-up {warmup}: "
            "needs at least one contestant, one repeat and a warm-up of 0 or more"
        )
    names = list(contestants)
    clocks: dict[str, list[Clock]] = {name: [] for name in names}
    for round_ in range(warmup + repeats):
        for name in rotated(names, round_):
            with Clock(device) as clock:
                contestants[name]()
            if round_ >= warmup:
                clocks[name].append(clock)
    return {
        name: Timing(tuple(c.seconds for c in timed), tuple(c.cpu_seconds for c in timed))
        for name, timed in clocks.items()
    }


@dataclass(frozen=True)
class Bandwidth:
    """Bytes per second that main memory takes: ``write`` filling an array, ``copy`` copying one (counted once)."""

    write: float
    copy: float


def memory_bandwidth(threads: int | None = None, size: int = 1 << 29, repeats: int = 7) -> Bandwidth:
    """Measure the ceiling for whatever writes its result to memory: the median of ``repeats``.

    Two arrays of ``size`` bytes, to be many times the last-level cache, are filled and copied by ``threads`` threads
    (default: the usable cores) with the C library's memset and memcpy. At such sizes these may write past the cache,
    while an ordinary store first reads the line it writes to and so reaches less. Raises UsageError for less than one
    thread, or less than a byte for each.
    """
    threads = machine.usable_cores() if threads is None else threads
    if threads < 1 or size < threads:
        raise UsageError(
            f"cannot measure {size} bytes with {threads} threads: needs at least one thread, and a byte for each"
        )
    target, source = np.zeros(size, np.uint8), np.ones(size, np.uint8)  # bytes: numpy fills those with memset
    cuts = [size * part // threads for part in range(threads + 1)]
    parts = [slice(*pair) for pair in pairwise(cuts)]

    with ThreadPoolExecutor(threads) as pool:  # numpy lets go of the interpreter lock for both
        timings = alternate(
            {
                "write": lambda: list(pool.map(lambda part: target[part].fill(7), parts)),
                "copy": lambda: list(pool.map(lambda part: np.copyto(target[part], source[part]), parts)),
            },
            repeats,
        )
    return Bandwidth(write=size / timings["write"].median, copy=size / timings["copy"].median)


def peak_rss_bytes() -> int:
    """The most memory this process has held at once since it started, in bytes; Linux counts it to about a MiB.

    It does not fall, so contestants are compared by running each in a process of its own.
    """
    # Linux's ru_maxrss is inherited from the parent through exec, so a child of a large process would look large.
    high_water = machine.proc_field("/proc/self/status", "VmHWM")
    if high_water:
        return int(high_water.split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def environment() -> dict[str, Any]:
    """What a result depends on beside the code under test, ready for JSON.

    Keys: cpu, cores, memory_bytes, os, python, versions (package: version or None), gpus, threads (of the libraries
    this process has loaded, and the variables that set them), commit, dirty.
    """
    head, dirty = machine.commit()
    return {
        "cpu": machine.cpu_model(),
        "cores": machine.usable_cores(),
        "memory_bytes": machine.memory_bytes(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "versions": {**{name: machine.version(name) for name in PACKAGES}, "dali": machine.version(*DALI_BUILDS)},
        "gpus": machine.gpus(),
        "threads": _threads(),
        "commit": head,
        "dirty": dirty,
    }


def _threads() -> dict[str, str | int]:
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    counts: dict[str, str | int] = {name: os.environ[name] for name in variables if name in os.environ}
    for library in ("torch", "numba"):
        if library in sys.modules:
            counts[library] = sys.modules[library].get_num_threads()
    return counts


GPU_BYTES = 1 << 30  # filled at once: many times a GPU's cache


def write_bandwidth(device: str, threads: int) -> float:
    """Bytes per second that filling the memory of ``device`` reaches; of the host's, with ``threads`` threads.

    Batches that stay in the cache may be written faster than that.
    """
    if device == "cpu":
        return memory_bandwidth(threads).write
    import torch

    target = torch.empty(GPU_BYTES, dtype=torch.uint8, device=device)
    timing = alternate({"write": lambda: target.fill_(7)}, repeats=7, device=device)["write"]
    return GPU_BYTES / timing.median
