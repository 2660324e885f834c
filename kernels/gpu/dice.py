"""`augment.draw` inside a Triton kernel: the same integers.

``sample`` is one int64 id or a block of them, and the results of a function have its shape. ``bounds`` are the int64
fields of `augment.Bounds` in their order, in device memory. The kernels read the spec from there, so that they are not
compiled again for each spec.
"""

import triton
import triton.language as tl

from fastcifar.augment import ERASE_TRIES, Bounds
from fastcifar.rng import fixedpoint
from fastcifar.rng.philox import Stream

_GATES, _JITTER, _ERASE, _PLACES, _COIN = (
    tl.constexpr(int(stream)) for stream in (Stream.GATES, Stream.JITTER, Stream.ERASE, Stream.PLACES, Stream.COIN)
)
_TRIES = tl.constexpr(ERASE_TRIES)
_AT_FLIP, _AT_FACTORS, _AT_ROTATE, _AT_ERASE, _AT_AREA, _AT_ASPECT, _AT_SIZE, _AT_CROP, _AT_CUT, _AT_ALTERNATES = (
    tl.constexpr(Bounds._fields.index(name))
    for name in (
        "flip", "brightness", "rotate", "erase", "area", "aspect", "out_size", "crop", "cut", "alternates"
    )
)  # fmt: skip
_S1, _S3, _S5, _S7, _S9 = (tl.constexpr(c) for c in fixedpoint.SIN_COEFFICIENTS)
_C0, _C2, _C4, _C6, _C8, _C10 = (tl.constexpr(c) for c in fixedpoint.COS_COEFFICIENTS)
_E0, _E1, _E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10 = (tl.constexpr(c) for c in fixedpoint.EXP2_COEFFICIENTS)
_FACTOR_UNIT, _RECTANGLE_UNIT = tl.constexpr(1 / fixedpoint.FACTOR_ONE), tl.constexpr(2.0**-40)


@triton.jit
def philox_words(seed, sample, epoch, stream, block):
    """Return the four uint32 words of the counter (sample, epoch, stream, block) under a 64-bit seed."""
    zero = sample * 0  # tl.philox requires that all words of the counter have one shape
    return tl.philox(
        seed, sample.to(tl.uint32), (zero + epoch).to(tl.uint32), (zero + stream).to(tl.uint32),
        (zero + block).to(tl.uint32),
    )  # fmt: skip


@triton.jit
def _any(pending, MANY: tl.constexpr):
    if MANY:
        found = tl.max(pending.to(tl.int32), 0) != 0
    else:
        found = pending
    return found


@triton.jit
def _between(word, bounds, at):
    """Return the int64 that a word draws from the range (low, span) at bounds[at], as `philox.scaled` does."""
    return tl.load(bounds + at) + ((word.to(tl.int64) * tl.load(bounds + at + 1)) >> 32)


@triton.jit
def _factor(word, bounds, at):
    return _between(word, bounds, at).to(tl.float32) * _FACTOR_UNIT


@triton.jit
def _sine(x, square):
    value = ((square * _S9) >> 30) + _S7
    value = ((value * square) >> 30) + _S5
    value = ((value * square) >> 30) + _S3
    value = ((value * square) >> 30) + _S1
    return (x * value) >> 30


@triton.jit
def _cosine(square):
    value = ((square * _C10) >> 30) + _C8
    value = ((value * square) >> 30) + _C6
    value = ((value * square) >> 30) + _C4
    value = ((value * square) >> 30) + _C2
    return ((value * square) >> 30) + _C0


@triton.jit
def _cos_sin(angle):
    """Return the int64 cosine and sine of int64 angles, as `fixedpoint.cos_sin` does."""
    quadrant = (angle + (1 << 28)) >> 29
    x = (angle - (quadrant << 29)) << 2
    square = (x * x) >> 30
    sine, cosine = _sine(x, square), _cosine(square)
    quadrant = quadrant & 3
    odd = (quadrant & 1) == 1
    cos, sin = tl.where(odd, sine, cosine), tl.where(odd, cosine, sine)
    cos = tl.where((quadrant == 1) | (quadrant == 2), -cos, cos)
    sin = tl.where(quadrant >= 2, -sin, sin)
    return (cos + 32) >> 6, (sin + 32) >> 6


@triton.jit
def _exp2(log):
    """Return the int64 power of two of int64 logarithms, as `fixedpoint.exp2` does."""
    whole, x = log >> 24, (log & ((1 << 24) - 1)) << 6
    value = ((x * _E10) >> 30) + _E9
    value = ((value * x) >> 30) + _E8
    value = ((value * x) >> 30) + _E7
    value = ((value * x) >> 30) + _E6
    value = ((value * x) >> 30) + _E5
    value = ((value * x) >> 30) + _E4
    value = ((value * x) >> 30) + _E3
    value = ((value * x) >> 30) + _E2
    value = ((value * x) >> 30) + _E1
    value = ((value * x) >> 30) + _E0
    return value >> (6 - tl.minimum(whole, 6)) << tl.maximum(whole - 6, 0)


@triton.jit
def _side(pixels, log_aspect):
    length = tl.math.sqrt_rn(pixels * _exp2(log_aspect).to(tl.float32) * _RECTANGLE_UNIT)
    return tl.math.floor(length + 0.5).to(tl.int64)


@triton.jit
def draw_rectangle(seed, sample, epoch, bounds, pending, MANY: tl.constexpr):
    """Return top, left, height and width of the erased rectangle, int32, in pixels of the output.

    All four are 0 where nothing is erased. pending: whether to erase (bool), the last result of `gates`. MANY: whether
    ``sample`` is a block of samples.
    """
    size = tl.load(bounds + _AT_SIZE)
    block, zero = tl.full((), 0, tl.int64), sample * 0
    top, left, height, width = zero, zero, zero, zero
    while _any(pending, MANY) & (block < _TRIES):
        area_word, aspect_word, top_word, left_word = philox_words(seed, sample, epoch, _ERASE, block)
        pixels = ((_between(area_word, bounds, _AT_AREA) * (size * size)) >> 14).to(tl.float32)
        aspect = _between(aspect_word, bounds, _AT_ASPECT)
        tall, wide = _side(pixels, aspect), _side(pixels, -aspect)
        fits = (tall < size) & (wide < size)
        # In a block, some samples may have their rectangle from an earlier try and must keep it. A single sample
        # would have left the loop, so it needs no registers for earlier results.
        if MANY:
            fits = fits & pending
            top, left, height, width = (
                tl.where(fits, (top_word.to(tl.int64) * (size - tall + 1)) >> 32, top),
                tl.where(fits, (left_word.to(tl.int64) * (size - wide + 1)) >> 32, left),
                tl.where(fits, tall, height),
                tl.where(fits, wide, width),
            )
            pending = pending & (fits == 0)
        else:
            height, width = tl.where(fits, tall, zero), tl.where(fits, wide, zero)
            top = tl.where(fits, (top_word.to(tl.int64) * (size - tall + 1)) >> 32, zero)
            left = tl.where(fits, (left_word.to(tl.int64) * (size - wide + 1)) >> 32, zero)
            pending = fits == 0
        block += 1
    return top.to(tl.int32), left.to(tl.int32), height.to(tl.int32), width.to(tl.int32)


@triton.jit
def gates(seed, sample, epoch, bounds):
    """Return flip (bool), jitter order in [0, 24), angle, cosine and sine (int64), and whether to erase (bool)."""
    flip_word, angle_word, order_word, erase_word = philox_words(seed, sample, epoch, _GATES, 0)
    flip = flip_word.to(tl.int64) < tl.load(bounds + _AT_FLIP)
    if tl.load(bounds + _AT_ALTERNATES) != 0:
        coin, _, _, _ = philox_words(seed, sample, 0, _COIN, 0)
        flip = (coin.to(tl.int64) < tl.load(bounds + _AT_FLIP)) != ((epoch & 1) == 1)
    order = (order_word.to(tl.int64) * 24) >> 32
    angle = _between(angle_word, bounds, _AT_ROTATE)
    cos, sin = _cos_sin(angle)
    return flip, order, angle, cos, sin, erase_word.to(tl.int64) < tl.load(bounds + _AT_ERASE)


@triton.jit
def factors(seed, sample, epoch, bounds):
    """Return the factors of brightness, contrast and saturation, and the turn of hue, float32."""
    a, b, c, d = philox_words(seed, sample, epoch, _JITTER, 0)
    return (
        _factor(a, bounds, _AT_FACTORS),
        _factor(b, bounds, _AT_FACTORS + 2),
        _factor(c, bounds, _AT_FACTORS + 4),
        _factor(d, bounds, _AT_FACTORS + 6),
    )


@triton.jit
def places(seed, sample, epoch, bounds):
    """Return the top and left of the crop, and the top and left of the cutout, int32."""
    a, b, c, d = philox_words(seed, sample, epoch, _PLACES, 0)
    return (
        _between(a, bounds, _AT_CROP).to(tl.int32),
        _between(b, bounds, _AT_CROP).to(tl.int32),
        _between(c, bounds, _AT_CUT).to(tl.int32),
        _between(d, bounds, _AT_CUT).to(tl.int32),
    )
