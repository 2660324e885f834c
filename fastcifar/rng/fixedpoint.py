"""The functions that draws need, in integer arithmetic, so that every back end computes the same bits.

Right shifts are arithmetic: they round down. All intermediate values fit int64.
"""

import math
from typing import Any

import numpy as np

FACTOR_ONE = 1 << 23  # jitter factors and hue: 23 fractional bits, so that a factor below 2 is an exact float32
TURN = 1 << 31  # angles: a full turn in units of 2**-31
TRIG_ONE = 1 << 24  # cosine and sine: small enough that 31 * (cos + sin) fits int32
AREA_ONE = 1 << 30  # the erased share of an image: 30 fractional bits
LOG2_ONE = 1 << 24  # log2 of the aspect ratio: 24 fractional bits

_ONE = 1 << 30
# Taylor coefficients, 30 fractional bits. For |x| <= pi/4 (an eighth of a turn), the first omitted terms are
# below 2e-9 (sine, x**11 / 11!) and 2e-10 (cosine, x**12 / 12!).
SIN_COEFFICIENTS = tuple(
    round((-1) ** (k // 2) * (math.pi / 4) ** k / math.factorial(k) * _ONE) for k in (1, 3, 5, 7, 9)
)
COS_COEFFICIENTS = tuple(
    round((-1) ** (k // 2) * (math.pi / 4) ** k / math.factorial(k) * _ONE) for k in (0, 2, 4, 6, 8, 10)
)
# Taylor coefficients of 2**f for f in [0, 1): the first omitted term, ln(2)**11 / 11!, is below 5e-10.
EXP2_COEFFICIENTS = tuple(round(math.log(2) ** k / math.factorial(k) * _ONE) for k in range(11))


def _horner(coefficients: tuple[int, ...], x: Any) -> Any:
    value = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        value = coefficient + ((value * x) >> 30)
    return value


def cos_sin(angle: Any) -> tuple[Any, Any]:
    """Return the cosine and sine of int64 angles as int64 with 24 fractional bits.

    angle: in [-2**30, 2**30], in units of 2**-31 turns. The error is below 2**-24.
    """
    quadrant = (angle + (1 << 28)) >> 29
    x = (angle - (quadrant << 29)) << 2  # [-1, 1) eighths of a turn, 30 fractional bits
    square = (x * x) >> 30
    sine = (x * _horner(SIN_COEFFICIENTS, square)) >> 30
    cosine = _horner(COS_COEFFICIENTS, square)
    quadrant = quadrant & 3
    odd, negative_cos, negative_sin = quadrant & 1, (quadrant == 1) | (quadrant == 2), quadrant >= 2
    cos, sin = np.where(odd, sine, cosine), np.where(odd, cosine, sine)
    cos, sin = np.where(negative_cos, -cos, cos), np.where(negative_sin, -sin, sin)
    return (cos + 32) >> 6, (sin + 32) >> 6


def exp2(log: Any) -> Any:
    """Return 2**log as int64 with 24 fractional bits. log: int64 with 24 fractional bits, a value in [-7, 7]."""
    whole, fraction = log >> 24, (log & (LOG2_ONE - 1)) << 6
    return _horner(EXP2_COEFFICIENTS, fraction) >> (6 - np.minimum(whole, 6)) << np.maximum(whole - 6, 0)


def rectangle(area: Any, log_aspect: Any, size: int) -> tuple[Any, Any]:
    """Return the height and width of rectangles in an image of size x size, as int64 pixels, rounded.

    area: share of the image, int64 with 30 fractional bits. log_aspect: log2(height / width), 24 fractional bits.
    """
    pixels = ((area * (size * size)) >> 14).astype(np.float32)  # 16 fractional bits
    scale = np.float32(2.0**-40)  # removes 16 + 24 fractional bits without rounding
    height = np.sqrt(pixels * exp2(log_aspect).astype(np.float32) * scale)
    width = np.sqrt(pixels * exp2(-log_aspect).astype(np.float32) * scale)
    return np.floor(height + np.float32(0.5)).astype(np.int64), np.floor(width + np.float32(0.5)).astype(np.int64)
