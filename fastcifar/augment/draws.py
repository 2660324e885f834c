"""The random numbers that select the augmentation of each image (`draw`).

Every draw uses integers. A float is made from an integer, either exactly or by one correctly rounded operation. So
numpy here, numba in ``kernels/cpu`` and Triton on a GPU agree on every bit, whatever their libm computes and wherever
their compilers use fused multiply-add.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcifar.augment.spec import ERASE_TRIES, JITTER_ORDERS, Augment, Bounds
from fastcifar.rng import fixedpoint
from fastcifar.rng.philox import Stream, scaled, words


@dataclass(frozen=True)
class Draws:
    """The drawn augmentation of each of N images: arrays of length N, with one entry per sample.

    ``order`` (N, 4) uint8 holds the jitter parts (0 brightness, 1 contrast, 2 saturation, 3 hue) in the order in which
    they are applied. ``angle`` int32 is in units of 2**-31 turns (``degrees`` gives float64 degrees). ``cos`` and
    ``sin`` int32 have 24 fractional bits. ``erase_*`` int32 are pixels of the *output* image; height 0 means that
    nothing is erased. ``crop_*`` int32 are the row and the column of the source image that the crop moves to the upper
    left corner; negative numbers lie in the padding. ``cut_*`` int32 are the upper left corner of the cutout's square
    in the output image, which may lie outside.
    """

    flip: NDArray[np.bool_]
    order: NDArray[np.uint8]
    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]
    saturation: NDArray[np.float32]
    hue: NDArray[np.float32]
    angle: NDArray[np.int32]
    cos: NDArray[np.int32]
    sin: NDArray[np.int32]
    erase_top: NDArray[np.int32]
    erase_left: NDArray[np.int32]
    erase_height: NDArray[np.int32]
    erase_width: NDArray[np.int32]
    crop_top: NDArray[np.int32]
    crop_left: NDArray[np.int32]
    cut_top: NDArray[np.int32]
    cut_left: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.flip)

    def __getitem__(self, rows: Any) -> "Draws":
        """Return the draws of some samples. rows: any numpy index that keeps the first axis."""
        return Draws(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def degrees(self) -> NDArray[np.float64]:
        """The rotation angles in degrees, counter-clockwise."""
        return self.angle.astype(np.float64) * (360.0 / fixedpoint.TURN)

    @classmethod
    def empty(cls, n: int) -> "Draws":
        """Return arrays for the draws of n images, not initialised."""
        arrays: list[NDArray[Any]] = [np.empty(n, np.bool_), np.empty((n, 4), np.uint8)]
        arrays += [np.empty(n, np.float32) for _ in range(4)] + [np.empty(n, np.int32) for _ in range(11)]
        return cls(*arrays)


def draw(spec: Augment, seed: int, epoch: int, ids: ArrayLike) -> Draws:
    """Draw the augmentation of each sample.

    ids: (N,) sample ids in [0, 2**32). seed: in [0, 2**64). An augmentation that ``spec`` leaves out does not change
    the draws of the others.
    """
    ids = np.asarray(ids, np.int64)
    bounds = spec.bounds()
    gate_flip, gate_angle, gate_order, gate_erase = words(seed, Stream.GATES, ids, epoch)
    jitter = words(seed, Stream.JITTER, ids, epoch)
    factors = [
        (low + scaled(word, span)).astype(np.float32) * np.float32(1 / fixedpoint.FACTOR_ONE)
        for word, low, span in zip(jitter, bounds[1:9:2], bounds[2:9:2], strict=True)
    ]
    angle = bounds.rotate + scaled(gate_angle, bounds.rotate_span)
    cos, sin = fixedpoint.cos_sin(angle)
    rectangle = _rectangles(bounds, seed, epoch, ids, gate_erase < bounds.erase)
    crop_top, crop_left, cut_top, cut_left = words(seed, Stream.PLACES, ids, epoch)
    places = [bounds.crop + scaled(word, bounds.crop_span) for word in (crop_top, crop_left)]
    places += [bounds.cut + scaled(word, bounds.cut_span) for word in (cut_top, cut_left)]
    arrays: list[NDArray[Any]] = [_flips(bounds, seed, epoch, ids, gate_flip)]
    arrays += [JITTER_ORDERS[scaled(gate_order, len(JITTER_ORDERS))], *factors]
    arrays += [*(whole.astype(np.int32) for whole in (angle, cos, sin)), *rectangle]
    arrays += [place.astype(np.int32) for place in places]
    return Draws(*arrays)


def _flips(
    bounds: Bounds, seed: int, epoch: int, ids: NDArray[np.int64], word: NDArray[np.uint32]
) -> NDArray[np.bool_]:
    """Return (N,) bool, whether each image is flipped. word: the epoch's random number of each image.

    Alternating flips use one random number for all epochs instead, and the epoch's parity.
    """
    if not bounds.alternates:
        return word < bounds.flip
    return (words(seed, Stream.COIN, ids)[0] < bounds.flip) ^ bool(epoch & 1)


def _rectangles(
    bounds: Bounds, seed: int, epoch: int, ids: NDArray[np.int64], wanted: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Return (4, N) int32: top, left, height and width of each image's rectangle; 0 where nothing is erased.

    It is the first of ERASE_TRIES rectangles that fits. wanted: the images to erase from; the function changes it.
    """
    out = np.zeros((4, len(ids)), np.int32)
    size = bounds.out_size
    for block in range(ERASE_TRIES):
        if not wanted.any():
            break
        rows = np.flatnonzero(wanted)
        area_word, aspect_word, top_word, left_word = words(seed, Stream.ERASE, ids[rows], epoch, block)
        area = bounds.area + scaled(area_word, bounds.area_span)
        aspect = bounds.aspect + scaled(aspect_word, bounds.aspect_span)
        height, width = fixedpoint.rectangle(area, aspect, size)
        fits = (height < size) & (width < size)
        top, left = scaled(top_word, size - height + 1), scaled(left_word, size - width + 1)
        out[:, rows[fits]] = np.stack([top, left, height, width])[:, fits]
        wanted[rows[fits]] = False
    return out
