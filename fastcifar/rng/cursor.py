"""The clock: a tensor with seed, epoch and batch number. A CUDA graph reads it at each replay."""

from functools import lru_cache

import torch
from torch import Tensor

from fastcifar.rng.philox import key_of

SEED, EPOCH, BATCH = range(3)  # indices into a clock


def clock_of(seed: int, epoch: int, device: torch.device, batch: int = 0) -> Tensor:
    """Return a clock: (3,) int64 on ``device`` with the seed, the epoch and the batch.

    seed: in [0, 2**64), stored with the same bits as a signed integer. epoch: >= 0. batch: the number of the batch in
    the epoch, >= 0. Raises UsageError for a seed outside its range.
    """
    key_of(seed)
    signed = seed - (1 << 64) if seed >> 63 else seed
    return torch.tensor([signed, epoch, batch], dtype=torch.int64, device=device)


@lru_cache(maxsize=8)
def standing_clock(seed: int, epoch: int, device: torch.device) -> Tensor:
    """Return a cached clock, which callers must not change. It is copied to the device once per epoch."""
    return clock_of(seed, epoch, device)


def read_cursor(clock: Tensor) -> tuple[int, int]:
    """Return the seed and the epoch of a clock in host memory."""
    return int(clock[SEED]) % (1 << 64), int(clock[EPOCH])
