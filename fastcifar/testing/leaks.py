"""The growth of a process's memory, as a slope: what comes and goes for other reasons does not change it."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import CDLL
from itertools import combinations
from pathlib import Path
from statistics import median

STATM = Path("/proc/self/statm")
WARM_UP = 3
"""Repeats that are not measured: in these, buffers are filled and threads get their stacks."""


def measurable() -> bool:
    """Return whether this system tells the memory that a process has in use."""
    return STATM.is_file()


def used_bytes() -> int:
    """Return the resident memory of this process in bytes, without memory that the C library keeps for later.

    Return 0 where the system does not tell it (`measurable`).
    """
    if not measurable():
        return 0
    with suppress(AttributeError, OSError):  # another C library than glibc
        CDLL(None).malloc_trim(0)
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(work: Callable[[int], object], repeats: int) -> list[int]:
    """Call ``work`` with 0, 1, ... and return the used bytes after each of the last ``repeats`` calls."""
    used = []
    for number in range(WARM_UP + repeats):
        work(number)
        if number >= WARM_UP:
            used.append(used_bytes())
    return used


def slope(values: Sequence[float]) -> float:
    """Return the growth of a series by one step: the median of the slopes between any two values (Theil and Sen).

    A few values that are far off do not change it: up to 29 % may be arbitrary. Needs at least two values.
    """
    places = combinations(enumerate(values), 2)
    return median((later - earlier) / (n - m) for (m, earlier), (n, later) in places)
