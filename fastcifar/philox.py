"""Every random number: Philox4x32-10, a pure function of (seed, stream, epoch, id, block).

The counter is ``(id, epoch, stream, block)`` and the key is the 64-bit seed, low word first. Nothing is ever
"advanced", so a number does not depend on who else drew one, in which order, or on how many threads.

Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; the
multipliers and Weyl constants are those of its Random123 library, whose known-answer vectors are a test here.
"""

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcifar.errors import UsageError

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
U32 = NDArray[np.uint32]


class Stream(IntEnum):
    """What a number is for: the third word of the counter. Values are part of the format: never renumber."""

    GATES = 0  # flip, rotation angle, jitter order, whether to erase
    JITTER = 1  # brightness, contrast, saturation, hue
    ERASE = 2  # one block a try: area, aspect, top, left
    ORDER = 3  # the order of an epoch
    SPLIT = 4  # training or validation
    WEIGHTS = 5  # initial weights: id = element, epoch = tensor
    DROPOUT = 6  # block = unit group; the layer is the stream's upper 16 bits
    IMAGES = 7  # synthetic images and labels


def key_of(seed: int) -> tuple[int, int]:
    """The two key words of a seed in [0, 2**64). Raises UsageError outside that range."""
    if not 0 <= seed < 1 << 64:
        raise UsageError(f"seed {seed} is outside [0, 2**64); choose a non-negative 64-bit integer")
    return seed & 0xFFFFFFFF, seed >> 32


def philox4x32(counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: tuple[int, int]) -> tuple[U32, ...]:
    """Four uint32 words for each counter.

    counter: four arrays (or ints) of values in [0, 2**32), broadcast together. key: two such ints.
    Returns four uint32 arrays of the broadcast shape.
    """
    # 64-bit lanes hold the 32 x 32 -> 64-bit products exactly.
    c0, c1, c2, c3 = (np.asarray(word, np.uint64) for word in np.broadcast_arrays(*counter))
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    m0, m1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = m0 * c0, m1 * c2
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ np.uint64(k0), p1 & low, (p0 >> half) ^ c3 ^ np.uint64(k1), p0 & low
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return tuple(word.astype(np.uint32) for word in (c0, c1, c2, c3))


def words(seed: int, stream: int, ids: ArrayLike, epoch: int = 0, block: int = 0) -> tuple[U32, ...]:
    """The four words of each id in ``stream`` at ``epoch``: uint32 arrays shaped like ``ids``."""
    return philox4x32((ids, epoch, int(stream), block), key_of(seed))


def scaled(word: Any, n: Any) -> Any:
    """floor(n * word / 2**32): a uint32 word made a uniform integer in [0, n), for n up to 2**31; int64 arrays."""
    return (np.asarray(word, np.int64) * np.asarray(n, np.int64)) >> np.int64(32)


def permutation(n: int, seed: int, stream: int, epoch: int = 0) -> NDArray[np.int64]:
    """A random order of range(n): positions sorted by a 64-bit word of their own (ties, if any, by position)."""
    high, low, _, _ = words(seed, stream, np.arange(n), epoch)
    return np.argsort((high.astype(np.uint64) << np.uint64(32)) | low, kind="stable").astype(np.int64)
