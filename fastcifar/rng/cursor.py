"""The clock: seed, epoch and batch number in a tensor, which work recorded once, a CUDA graph, reads at each replay."""

from functools import lru_cache

import torch
from torch import Tensor

from fastcifar.rng.philox import key_of

SEED, EPOCH, BATCH = range(3)  # places in a clock


def clock_of(seed: int, epoch: int, device: torch.device, batch: int = 0) -> Tensor:
    """(3,) int64 on ``device``: the bits of a seed in [0, 2**64), the epoch and the batch's number in it, each >= 0.

    Raises UsageError for a seed out of range.
    """
    key_of(seed)
    signed = seed - (1 << 64) if seed >> 63 else seed
    return torch.tensor([signed, epoch, batch], dtype=torch.int64, device=device)


@lru_cache(maxsize=8)
def standing_clock(seed: int, epoch: int, device: torch.device) -> Tensor:
    """A `clock_of` that many share, to be read alone: copied to the device once an epoch, not at every call."""
    return clock_of(seed, epoch, device)


def read(clock: Tensor) -> tuple[int, int]:
    """Seed and epoch of a clock in host memory."""
    return int(clock[SEED]) % (1 << 64), int(clock[EPOCH])
