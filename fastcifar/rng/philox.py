"""The source of every random number: Philox4x32-10, a pure function of (seed, stream, epoch, id, block).

The counter is ``(id, epoch, stream, block)`` and the key is the 64-bit seed, low word first. There is
no state, so a number depends on no other draw, no order of draws and no number of threads.

Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; the
multipliers and Weyl constants come from the paper's Random123 library, and a test checks its known-answer vectors.
"""

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcifar.errors import UsageError

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
LOW = 0xFFFFFFFF
U32 = NDArray[np.uint32]


class Stream(IntEnum):
    """The purpose of a random number: the third word of the counter. The values are fixed: never renumber them."""

    GATES = 0  # flip, rotation angle, jitter order, whether to erase
    JITTER = 1  # brightness, contrast, saturation, hue
    ERASE = 2  # one block per try: area, aspect, top, left
    ORDER = 3  # the order of an epoch
    SPLIT = 4  # training or validation
    WEIGHTS = 5  # initial weights: id = element, epoch = tensor
    DROPOUT = 6  # block = four units; the layer is in the stream's upper 16 bits
    IMAGES = 7  # synthetic images and labels
    PLACES = 8  # crop: top, left; cutout: top, left
    COIN = 9  # which images alternating flips flip in even epochs; always at epoch 0
    VIEWS = 10  # the seed of a further view of an image: id = view
    TRANSFORM = 11  # the seed of a loader's own transform: id = batch, block = process


def key_of(seed: int) -> tuple[int, int]:
    """Return the two 32-bit key words of a seed in [0, 2**64), low word first. Raises UsageError outside that range."""
    if not 0 <= seed < 1 << 64:
        raise UsageError(f"seed {seed} is outside [0, 2**64); choose a non-negative 64-bit integer")
    return seed & LOW, seed >> 32


def rounds(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Apply the ten rounds of Philox.

    counter: four numpy arrays or torch tensors of one shape and device, int64 values in [0, 2**32). key: see `key_of`.
    Returns four such arrays.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # a product that overflows int64 keeps its 64 bits, and the masks remove the sign
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) & LOW) ^ c1 ^ k0, p1 & LOW, ((p0 >> 32) & LOW) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + WEYL[0]) & LOW, (k1 + WEYL[1]) & LOW
    return c0, c1, c2, c3


def philox4x32(counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: tuple[int, int]) -> tuple[U32, ...]:
    """Return four uint32 words for each counter.

    counter: four arrays (or ints) of values in [0, 2**32), broadcast together. key: two such ints.
    Returns four uint32 arrays of the broadcast shape.
    """
    c0, c1, c2, c3 = (np.asarray(word, np.int64) for word in np.broadcast_arrays(*counter))
    with np.errstate(over="ignore"):  # numpy makes scalars of 0-d arrays, and scalars warn
        return tuple(np.asarray(word).astype(np.uint32) for word in rounds((c0, c1, c2, c3), key))


def words(seed: int, stream: int, ids: ArrayLike, epoch: int = 0, block: int = 0) -> tuple[U32, ...]:
    """Return the four words of each id in ``stream`` at ``epoch``: uint32 arrays with the shape of ``ids``."""
    return philox4x32((ids, epoch, int(stream), block), key_of(seed))


def scaled(word: Any, n: Any) -> Any:
    """Return floor(n * word / 2**32) as int64: a uniform integer in [0, n). word: uint32. n: at most 2**31."""
    return (np.asarray(word, np.int64) * np.asarray(n, np.int64)) >> np.int64(32)


def shuffled(ids: NDArray[np.int64], seed: int, stream: int, epoch: int = 0) -> NDArray[np.int64]:
    """Return ids, (N,) int64, in a random order: sorted by a random 64-bit number per id; ties keep their order."""
    high, low, _, _ = words(seed, stream, ids, epoch)
    return ids[np.argsort((high.astype(np.uint64) << np.uint64(32)) | low, kind="stable")]


def permutation(n: int, seed: int, stream: int, epoch: int = 0) -> NDArray[np.int64]:
    """Return a random order of range(n), (n,) int64."""
    return shuffled(np.arange(n), seed, stream, epoch)
