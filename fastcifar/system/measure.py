"""The tools of a measurement: clocks, memory, and the description of the machine that every result carries.

All values are in seconds, bytes and bytes per second. Only the timing of a CUDA device imports torch.
"""

import os
import platform
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
from fastcifar.system import load, machine

T = TypeVar("T")
PACKAGES = ("torch", "torchvision", "numba", "numpy", "triton", "ffcv")
DALI_BUILDS = ("nvidia-dali-cuda130", "nvidia-dali-cuda120", "nvidia-dali-cuda110")


class Clock:
    """A stopwatch: ``with Clock() as clock: ...``, then ``clock.seconds`` (wall) and ``clock.cpu_seconds``.

    The CPU seconds cover all threads of this process, but not its children. With ``device="cuda"`` (or ``"cuda:1"``),
    the clock waits for the work queued on that device at the start and at the end.
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
    """Return the items in their order for a round, rotated by one item per round, so that none is always the first.

    round_: counted from 0.
    """
    first = round_ % len(items)
    return [*items[first:], *items[:first]]


@dataclass(frozen=True)
class Timing:
    """The wall seconds and CPU seconds of each repeat of one contestant, in the order of the repeats."""

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
    """Time the contestants in turn: ``repeats`` rounds, after ``warmup`` rounds that are not timed.

    The order is rotated by one in each round. So no contestant is always the first, and a machine that becomes slower
    or faster favours none. device: see `Clock`. Raises UsageError for no contestants, no repeats or a negative
    warm-up.
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
    """The bandwidth of main memory in bytes per second: filling an array, and copying one (each byte counts once)."""

    write: float
    copy: float


def memory_bandwidth(threads: int | None = None, size: int = 1 << 29, repeats: int = 7) -> Bandwidth:
    """Measure the memory bandwidth, the upper limit for code that writes to memory: the median of ``repeats``.

    One array of ``size`` bytes is filled and another is copied to it, with the C library's memset and memcpy.
    ``size`` should be many times the last-level cache. threads: the number of threads; by default the usable cores.
    At such sizes memset and memcpy may bypass the cache. An ordinary store first reads its cache line and so is slower.
    Raises UsageError for less than one thread, or less than one byte per thread.
    """
    threads = machine.usable_cores() if threads is None else threads
    if threads < 1 or size < threads:
        raise UsageError(
            f"cannot measure {size} bytes with {threads} threads: needs at least one thread, and a byte for each"
        )
    target, source = np.zeros(size, np.uint8), np.ones(size, np.uint8)  # numpy fills a uint8 array with memset
    cuts = [size * part // threads for part in range(threads + 1)]
    parts = [slice(*pair) for pair in pairwise(cuts)]

    with ThreadPoolExecutor(threads) as pool:  # numpy releases the interpreter lock for both
        timings = alternate(
            {
                "write": lambda: list(pool.map(lambda part: target[part].fill(7), parts)),
                "copy": lambda: list(pool.map(lambda part: np.copyto(target[part], source[part]), parts)),
            },
            repeats,
        )
    return Bandwidth(write=size / timings["write"].median, copy=size / timings["copy"].median)


def peak_rss_bytes() -> int:
    """Return the peak resident memory of this process since its start, in bytes; Linux is exact to about a MiB.

    The peak never falls, so a comparison runs each contestant in a separate process.
    """
    # Linux's ru_maxrss is inherited from the parent through exec, so a child of a large process would look large.
    high_water = machine.proc_field("/proc/self/status", "VmHWM")
    if high_water:
        return int(high_water.split()[0]) * 1024
    import resource  # Windows does not have it

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def environment() -> dict[str, Any]:
    """Return the machine and the software of a result, apart from the code under test, as values for JSON.

    Keys: cpu, cores, memory_bytes, os, python, versions (package: version or None), gpus, threads (of the libraries
    that this process has loaded, and the variables that set them), commit, dirty.
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
    others = ("MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    counts: dict[str, str | int] = {name: os.environ[name] for name in others if name in os.environ}
    counts |= load.variables()
    for library in ("torch", "numba"):
        if library in sys.modules:
            counts[library] = sys.modules[library].get_num_threads()
    return counts


GPU_BYTES = 1 << 30  # many times a GPU's cache


def write_bandwidth(device: str, threads: int) -> float:
    """Return the bytes per second of filling the memory of ``device``. threads: used for the host's memory alone.

    Writing a batch that stays in the cache may be faster.
    """
    if device == "cpu":
        return memory_bandwidth(threads).write
    import torch

    target = torch.empty(GPU_BYTES, dtype=torch.uint8, device=device)
    timing = alternate({"write": lambda: target.fill_(7)}, repeats=7, device=device)["write"]
    return GPU_BYTES / timing.median
