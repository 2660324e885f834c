"""Shared memory (/dev/shm), in which worker processes put their batches. A Docker container has 64 MB by default."""

import math
import os

from fastcifar.system.temporary import SHARED as SHARED

PAGE = 4096  # bytes
PREFETCHED = 2  # batches that each worker of torch's DataLoader makes ahead, by default
TAKEN = 2  # batches of which the consumer still has memory: the last one and the one before
MIB, GIB = 1 << 20, 1 << 30


def free_bytes() -> int | None:
    """Return the free shared memory, in bytes; None on a system without /dev/shm, where it has no limit of its own."""
    try:
        found = os.statvfs(SHARED)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def needed_bytes(workers: int, prefetched: int, batch: int, batches: int) -> int:
    """Return the shared memory that workers need, in bytes.

    prefetched: batches that each worker makes ahead. batch: the bytes of a batch. batches: those of an epoch.
    """
    return batch * min(workers * prefetched + TAKEN, batches)


def fitting(workers: int, batch: int, batches: int, free: int | None) -> tuple[int, int]:
    """Return the numbers of workers and of batches that each makes ahead, so that all fit into ``free`` bytes.

    The workers are at most ``workers``, and 0 where not even one has room. The other arguments are those of
    `needed_bytes`. free: None for no limit.
    """
    for fewer in range(workers, 0, -1):
        for prefetched in range(PREFETCHED, 0, -1):
            if free is None or needed_bytes(fewer, prefetched, batch, batches) <= free:
                return fewer, prefetched
    return 0, 0


def padded(*sizes: int) -> int:
    """Return the bytes that files of these sizes take, each in whole pages."""
    return sum(-(-size // PAGE) * PAGE for size in sizes)


def cure(needed: int = 2 * GIB) -> str:
    """Return the command that gives a container ``needed`` bytes of shared memory and some more."""
    return f"docker run --shm-size={max(1, math.ceil(1.25 * needed / GIB))}g"


def is_lacking(error: BaseException) -> bool:
    """Return whether an error, also one that came from a worker process, says that shared memory is full."""
    text = str(error)
    return "unable to allocate shared memory" in text or "unable to write to file </torch_" in text
