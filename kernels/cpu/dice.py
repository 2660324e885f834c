"""`augment.draw` in compiled code: the same integers, one sample at a time. Fast-math is off, as every bit counts.

All compiled functions that `fill` calls are in this file, because numba's on-disk cache detects changes to this file
only.
"""

import numpy as np
from fastcifar.kernels.cpu import compiling

from fastcifar.augment import ERASE_TRIES, JITTER_ORDERS
from fastcifar.rng.fixedpoint import COS_COEFFICIENTS, EXP2_COEFFICIENTS, SIN_COEFFICIENTS
from fastcifar.rng.philox import MULTIPLIERS, ROUNDS, WEYL, Stream

_COMPILE = {"nogil": True, "error_model": "numpy"}

M0, M1 = (np.uint64(v) for v in MULTIPLIERS)
W0, W1 = (np.uint64(v) for v in WEYL)
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
GATES, JITTER, ERASE = int(Stream.GATES), int(Stream.JITTER), int(Stream.ERASE)
PLACES, COIN = int(Stream.PLACES), int(Stream.COIN)
SINES, COSINES, EXPONENTIALS = (np.array(c, np.int64) for c in (SIN_COEFFICIENTS, COS_COEFFICIENTS, EXP2_COEFFICIENTS))
FACTOR_UNIT, RECTANGLE_UNIT, ROUND = np.float32(2.0**-23), np.float32(2.0**-40), np.float32(0.5)
UNIFORM_UNIT = np.float32(2.0**-24)


@compiling.kept(**_COMPILE)
def philox(sample, epoch, stream, block, seed):
    """Return the four words, int64 in [0, 2**32), of a counter of non-negative int64 under a uint64 seed."""
    c0, c1, c2, c3 = np.uint64(sample), np.uint64(epoch), np.uint64(stream), np.uint64(block)
    k0, k1 = seed & LOW, seed >> HALF
    for _ in range(ROUNDS):
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return np.int64(c0), np.int64(c1), np.int64(c2), np.int64(c3)


@compiling.kept(**_COMPILE)
def _scaled(word, n):
    return (word * n) >> 32


@compiling.kept(**_COMPILE)
def _horner(coefficients, x):
    value = coefficients[-1]
    for k in range(len(coefficients) - 2, -1, -1):
        value = coefficients[k] + ((value * x) >> 30)
    return value


@compiling.kept(**_COMPILE)
def _cos_sin(angle):
    quadrant = (angle + (1 << 28)) >> 29
    x = (angle - (quadrant << 29)) << 2
    square = (x * x) >> 30
    sine, cosine = (x * _horner(SINES, square)) >> 30, _horner(COSINES, square)
    quadrant &= 3
    cos, sin = (sine, cosine) if quadrant & 1 else (cosine, sine)
    cos = -cos if quadrant == 1 or quadrant == 2 else cos
    sin = -sin if quadrant >= 2 else sin
    return (cos + 32) >> 6, (sin + 32) >> 6


@compiling.kept(**_COMPILE)
def _exp2(log):
    whole, fraction = log >> 24, (log & ((1 << 24) - 1)) << 6
    value = _horner(EXPONENTIALS, fraction)
    return value >> (6 - whole) if whole <= 6 else value << (whole - 6)


@compiling.kept(**_COMPILE)
def _side(pixels, log_aspect):
    length = np.sqrt(pixels * np.float32(_exp2(log_aspect)) * RECTANGLE_UNIT)
    return np.int64(np.floor(length + ROUND))


@compiling.kept(**_COMPILE)
def fill(
    bounds, seed, epoch, ids, flip, order, brightness, contrast, saturation, hue, angle, cos, sin,
    top, left, height, width, crop_top, crop_left, cut_top, cut_left,
):  # fmt: skip
    """Fill the arrays of `Draws` for ids (N,) int64. bounds: an `augment.Bounds`; seed: uint64; epoch: int64."""
    for i in range(ids.shape[0]):
        flip_word, angle_word, order_word, erase_word = philox(ids[i], epoch, GATES, 0, seed)
        flip[i] = flip_word < bounds.flip
        if bounds.alternates:
            flip[i] = (philox(ids[i], 0, COIN, 0, seed)[0] < bounds.flip) != (epoch & 1 == 1)
        order[i] = JITTER_ORDERS[_scaled(order_word, 24)]
        turn = bounds.rotate + _scaled(angle_word, bounds.rotate_span)
        angle[i] = turn
        cos[i], sin[i] = _cos_sin(turn)
        words = philox(ids[i], epoch, JITTER, 0, seed)
        brightness[i] = np.float32(bounds.brightness + _scaled(words[0], bounds.brightness_span)) * FACTOR_UNIT
        contrast[i] = np.float32(bounds.contrast + _scaled(words[1], bounds.contrast_span)) * FACTOR_UNIT
        saturation[i] = np.float32(bounds.saturation + _scaled(words[2], bounds.saturation_span)) * FACTOR_UNIT
        hue[i] = np.float32(bounds.hue + _scaled(words[3], bounds.hue_span)) * FACTOR_UNIT
        words = philox(ids[i], epoch, PLACES, 0, seed)
        crop_top[i] = bounds.crop + _scaled(words[0], bounds.crop_span)
        crop_left[i] = bounds.crop + _scaled(words[1], bounds.crop_span)
        cut_top[i] = bounds.cut + _scaled(words[2], bounds.cut_span)
        cut_left[i] = bounds.cut + _scaled(words[3], bounds.cut_span)
        top[i] = left[i] = height[i] = width[i] = 0
        if erase_word >= bounds.erase:
            continue
        size = bounds.out_size
        for block in range(ERASE_TRIES):
            words = philox(ids[i], epoch, ERASE, block, seed)
            area = bounds.area + _scaled(words[0], bounds.area_span)
            aspect = bounds.aspect + _scaled(words[1], bounds.aspect_span)
            pixels = np.float32((area * (size * size)) >> 14)
            tall, wide = _side(pixels, aspect), _side(pixels, -aspect)
            if tall < size and wide < size:
                height[i], width[i] = tall, wide
                top[i], left[i] = _scaled(words[2], size - tall + 1), _scaled(words[3], size - wide + 1)
                break


@compiling.kept(**_COMPILE)
def fill_words(stream, seed, epoch, first, second):
    """Write the first two words of ids 0, 1, 2, ... to ``first`` and ``second``, uint32 arrays of one length."""
    for i in range(first.shape[0]):
        words = philox(i, epoch, stream, 0, seed)
        first[i], second[i] = words[0], words[1]


@compiling.kept(**_COMPILE)
def fill_uniform(stream, seed, epoch, width, low, out):
    """Fill ``out`` with uniform random numbers in [low, low + width), in 2**24 steps.

    Number i comes from the first word of id i. out, low, width: float32.
    """
    for i in range(out.shape[0]):
        word = philox(i, epoch, stream, 0, seed)[0]
        out[i] = np.float32(word >> 8) * UNIFORM_UNIT * width + low


@compiling.kept(**_COMPILE)
def fill_kept(threshold, factor, stream, seed, epoch, ids, kept):
    """Write the dropout mask ``kept`` (B, U) float32: 0 where a unit's random 32-bit word is below threshold, factor
    elsewhere. The word is a function of stream, seed, epoch and sample id.

    threshold: int64 in [0, 2**32). ids: (B,) int64.
    """
    units = kept.shape[1]
    for i in range(ids.shape[0]):
        for block in range((units + 3) // 4):
            words = philox(ids[i], epoch, stream, block, seed)
            for k in range(min(4, units - 4 * block)):
                kept[i, 4 * block + k] = factor if words[k] >= threshold else np.float32(0)
