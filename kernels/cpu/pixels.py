"""Compiled functions that make the pixels of a slice of a batch, one image at a time.

The scratch memory fits the L1 cache. A crop copies the bytes of the image to their new places first. The image is split
into three planes of 1,024 floats, so that every colour operation is a loop that LLVM turns into vector instructions.
Rotation and flip are one table of source positions. The result is gathered into (H, W, C) order and normalised. Then it
is cast, or `enlarge` enlarges and casts it.

Only `render` is in numba's on-disk cache, with all functions that it calls. They may be in other files of this folder:
`render` is compiled again when any of these files has changed (see `_compiled`).
"""

from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
import numpy as np
from fastcifar.kernels.cpu import compiling
from fastcifar.kernels.cpu.casts import bfloat16, float16
from fastcifar.kernels.cpu.enlarge import BFLOAT16, FLOAT32, SLACK, enlarge
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

SIZE = 32
PIXELS = SIZE * SIZE
OUTSIDE = PIXELS  # every plane has one more value, 0, which rotation takes for positions outside the image

# Fast-math is off: only the reference's operations in the reference's order give its bits.
_COMPILE = {"nogil": True, "error_model": "numpy"}

# Named float32 constants, because numba computes in float64 where a Python literal meets a float32.
F0, F1, F2, F3, F4, F5, F6 = (np.float32(v) for v in range(7))
RED, GREEN, BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)
PER_LEVEL = np.float32(1 / 255)
TRIG_ONE, TRIG_ZERO = np.int32(1 << 24), np.int32(0)
UNPADDED, ZEROS, REFLECTED = range(3)


@numba.njit(**_COMPILE)
def _clamp(x):
    x = x if x > F0 else F0
    return x if x < F1 else F1


@numba.njit(**_COMPILE)
def _brightness(r, g, b, factor):
    for p in range(PIXELS):
        r[p] = _clamp(r[p] * factor)
        g[p] = _clamp(g[p] * factor)
        b[p] = _clamp(b[p] * factor)


@numba.njit(**_COMPILE)
def _grey(r, g, b, grey):
    for p in range(PIXELS):
        grey[p] = RED * r[p] + GREEN * g[p] + BLUE * b[p]


@numba.njit(fastmath={"reassoc"}, **_COMPILE)
def _mean(grey):
    """Return the mean of 1,024 float32 values in [0, 1].

    In float64 their sum is almost always exact, so the additions may be done in any order.
    """
    total = 0.0
    for p in range(PIXELS):
        total += np.float64(grey[p])
    return np.float32(total / PIXELS)


@numba.njit(**_COMPILE)
def _contrast(r, g, b, grey, factor):
    _grey(r, g, b, grey)
    rest = (F1 - factor) * _mean(grey)
    for p in range(PIXELS):
        r[p] = _clamp(factor * r[p] + rest)
        g[p] = _clamp(factor * g[p] + rest)
        b[p] = _clamp(factor * b[p] + rest)


@numba.njit(**_COMPILE)
def _saturation(r, g, b, grey, factor):
    _grey(r, g, b, grey)
    for p in range(PIXELS):
        rest = (F1 - factor) * grey[p]
        r[p] = _clamp(factor * r[p] + rest)
        g[p] = _clamp(factor * g[p] + rest)
        b[p] = _clamp(factor * b[p] + rest)


@numba.njit(**_COMPILE)
def _sector(value, chroma, k):
    """Return one channel of HSV's inverse. k: in [0, 12), in sixths of a turn."""
    k = k - F6 if k >= F6 else k
    rest = F4 - k
    return value - chroma * _clamp(k if k < rest else rest)


@numba.njit(**_COMPILE)
def _hue(r, g, b, turn):
    sextants = F6 * turn
    for p in range(PIXELS):
        red, green, blue = r[p], g[p], b[p]
        value = red if red > green else green
        value = value if value > blue else blue
        low = red if red < green else green
        low = low if low < blue else blue
        chroma = value - low
        # The numerator is chosen first, so that one division is enough.
        numerator = blue - red if green == value else red - green
        numerator = green - blue if red == value else numerator
        start = F2 if green == value else F4
        start = F0 if red == value else start
        h = start + numerator / (chroma if chroma > F0 else F1) + sextants
        h = h + F6 if h < F0 else h
        h = h - F6 if h >= F6 else h
        r[p] = _sector(value, chroma, F5 + h)
        g[p] = _sector(value, chroma, F3 + h)
        b[p] = _sector(value, chroma, F1 + h)


@numba.njit(**_COMPILE)
def _jitter(r, g, b, grey, order, brightness, contrast, saturation, hue):
    for step in range(4):
        part = order[step]
        if part == 0:
            _brightness(r, g, b, brightness)
        elif part == 1:
            _contrast(r, g, b, grey, contrast)
        elif part == 2:
            _saturation(r, g, b, grey, saturation)
        else:
            _hue(r, g, b, hue)


@intrinsic
def _copy_four(context, target, to, source, at):
    """Copy the four bytes source[at : at + 4] to target[to : to + 4]. Both are uint8 arrays.

    numba has no unaligned access of its own. Copying a pixel and one byte more takes a third of the instructions that
    three bytes take.
    """

    def generate(context, builder, signature, arguments):
        word = ir.IntType(32).as_pointer()
        places = [
            builder.bitcast(builder.gep(make_array(kind)(context, builder, array).data, [index]), word)
            for kind, array, index in zip(signature.args[::2], arguments[::2], arguments[1::2], strict=True)
        ]
        builder.store(builder.load(places[1], align=1), places[0], align=1)
        return context.get_dummy_value()

    return types.void(target, to, source, at), generate


@numba.njit(**_COMPILE)
def _reflected(at):
    """Return the position in [0, 31] that a position in [-31, 62] mirrors."""
    at = at if at >= 0 else -at
    return at if at < SIZE else 2 * (SIZE - 1) - at


@numba.njit(**_COMPILE)
def _move(image, source, moved, columns, top, left, flip, zeros):
    """Write the cropped, then flipped, image to ``moved``. image: (3072,) uint8, channels interleaved.

    zeros: whether the padding is black, not reflected. source, moved: (3076,) uint8, memory with room for the bytes
    that _copy_four copies behind the last pixel. columns: (32,) int64, memory.
    """
    for k in range(PIXELS * 3):
        source[k] = image[k]
    for column in range(SIZE):
        columns[column] = 3 * _reflected((SIZE - 1 - column if flip else column) + left)
    for row in range(SIZE):
        at, to = _reflected(row + top) * 3 * SIZE, row * 3 * SIZE
        for column in range(SIZE):
            _copy_four(moved, to + 3 * column, source, at + columns[column])
    if zeros:
        _blacken(moved, top, -left if flip else left)


@numba.njit(**_COMPILE)
def _blacken(moved, top, left):
    """Set the padding to 0 that a shift by ``top`` rows and ``left`` columns brought into an image of bytes."""
    wide = SIZE * 3
    first, end = 3 * max(-left, 0), 3 * min(SIZE - left, SIZE)
    for row in range(SIZE):
        here, outside = moved[row * wide : (row + 1) * wide], not 0 <= row + top < SIZE
        here[: wide if outside else first] = 0
        here[end:] = 0


@numba.njit(**_COMPILE)
def _places(places, cos, sin, flip):
    """Write the index of the source pixel of each output pixel, or OUTSIDE.

    The image is flipped before it is rotated, so the way back from output to source rotates first and flips last.
    """
    centre = np.int32(((SIZE - 1) << 24) + (1 << 24))
    last, mask = np.int32(SIZE - 1), np.int32(SIZE - 1 if flip else 0)
    for row in range(SIZE):
        y = np.int32(2 * row - (SIZE - 1))
        start_column, start_row = centre - sin * y, centre + cos * y
        for column in range(SIZE):
            x = np.int32(2 * column - (SIZE - 1))
            source_column = np.int32((start_column + cos * x) >> 25)
            source_row = np.int32((start_row + sin * x) >> 25)
            # as unsigned numbers, negative positions are beyond the last one, too
            inside = (np.uint32(source_column) <= np.uint32(last)) & (np.uint32(source_row) <= np.uint32(last))
            place = source_row * np.int32(SIZE) + (source_column ^ mask)
            places[row * SIZE + column] = np.uint32(place) if inside else np.uint32(OUTSIDE)


@numba.njit(**_COMPILE)
def _normalise(source, mean, scale):
    for k in range(source.shape[0]):
        source[k] = (source[k] - mean[k]) * scale[k]


@numba.njit(**_COMPILE)
def _store(values, out32, out16, dtype):
    """Cast the values and write them: to out32 where dtype is FLOAT32, else to out16."""
    if dtype == FLOAT32:
        for k in range(values.shape[0]):
            out32[k] = values[k]
    elif dtype == BFLOAT16:
        for k in range(values.shape[0]):
            out16[k] = bfloat16(values[k])
    else:
        for k in range(values.shape[0]):
            out16[k] = float16(values[k])


@numba.njit(**_COMPILE)
def _blank(out32, out16, dtype, begin, side, top, left, bottom, right):
    """Set rows [top, bottom), columns [left, right) of the image at ``begin`` to 0. side: its height and width."""
    for row in range(top, bottom):
        at, end = begin + (row * side + left) * 3, begin + (row * side + right) * 3
        if dtype == FLOAT32:
            out32[at:end] = F0
        else:
            out16[at:end] = np.uint16(0)


@numba.njit(**_COMPILE)
def _render(
    images, rows, flip, order, brightness, contrast, saturation, hue, cos, sin, top, left, height, width,
    crop_top, crop_left, cut_top, cut_left, jitters, rotates, padding, cutout, mean, scale, first, weight, fives,
    weights, out32, out16, dtype, streams,
):  # fmt: skip
    """Write the result of `apply` for images[rows].

    images: (N, 3072) uint8. rows: (B,) int64. flip to cut_left: the arrays of Draws. jitters, rotates: bool. padding:
    UNPADDED, ZEROS or REFLECTED. cutout: the side of the square in pixels, or 0. mean, scale:
    (3072,) float32, the mean and 1 / std of each value, channels interleaved. first to weights: the `Taps` of the
    enlargement. dtype: FLOAT32 writes out32 float32, FLOAT16 and BFLOAT16 write their bits to out16 uint16. Both are
    flat, and the other one may be empty. streams: as in `enlarge`.
    """
    r, g, b = np.empty(PIXELS + 1, np.float32), np.empty(PIXELS + 1, np.float32), np.empty(PIXELS + 1, np.float32)
    r[OUTSIDE] = g[OUTSIDE] = b[OUTSIDE] = F0
    grey, places = np.empty(PIXELS, np.float32), np.empty(PIXELS, np.uint32)
    padded = np.zeros(PIXELS * 3 + 2, np.float32)  # `enlarge` reads two values more
    source = padded[: PIXELS * 3]
    enlarges = first.shape[0] > 0
    side = first.shape[0] if enlarges else SIZE
    wide = side * 3
    enlarged = np.empty(2 * (wide + SLACK), np.float32)
    copied, moved = np.empty(PIXELS * 3 + 4, np.uint8), np.empty(PIXELS * 3 + 4, np.uint8)
    columns = np.empty(SIZE, np.int64)
    for i in range(rows.shape[0]):
        image, flips = images[rows[i]], flip[i]
        if padding != UNPADDED or (flips and not (jitters or rotates)):
            _move(image, copied, moved, columns, crop_top[i], crop_left[i], flips, padding == ZEROS)
            image, flips = moved, False
        if jitters or rotates:
            for p in range(PIXELS):
                r[p] = np.float32(image[3 * p])
                g[p] = np.float32(image[3 * p + 1])
                b[p] = np.float32(image[3 * p + 2])
            for p in range(PIXELS):
                r[p] *= PER_LEVEL
                g[p] *= PER_LEVEL
                b[p] *= PER_LEVEL
            if jitters:
                _jitter(r, g, b, grey, order[i], brightness[i], contrast[i], saturation[i], hue[i])
            _places(places, cos[i] if rotates else TRIG_ONE, sin[i] if rotates else TRIG_ZERO, flips)
            for p in range(PIXELS):
                place = places[p]
                source[3 * p], source[3 * p + 1], source[3 * p + 2] = r[place], g[place], b[place]
        else:
            for k in range(PIXELS * 3):
                source[k] = np.float32(image[k]) * PER_LEVEL
        _normalise(source, mean, scale)
        begin = i * side * wide
        if enlarges:
            enlarge(padded, enlarged, first, weight, fives, weights, out32, out16, begin, dtype, streams)
        else:
            here = slice(begin, begin + wide * side)
            _store(source, out32[here], out16[here], dtype)
        _blank(out32, out16, dtype, begin, side, top[i], left[i], top[i] + height[i], left[i] + width[i])
        if cutout:
            first_row, first_column = max(cut_top[i], 0), max(cut_left[i], 0)
            end_row, end_column = min(cut_top[i] + cutout, side), min(cut_left[i] + cutout, side)
            _blank(out32, out16, dtype, begin, side, first_row, first_column, end_row, end_column)


def _sources(folder: Path) -> int:
    """Return a number that any change to a Python file of the folder changes, in [0, 2**32)."""
    files = sorted(folder.glob("*.py"))
    return int(sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8], 16)


def _compiled(sources: int) -> Any:
    """Return `_render` in numba's on-disk cache. sources: the number of `_sources` for this folder.

    numba looks for changes to this file only. But the values in a function's closure, such as ``sources``, are part of
    the key of its cache.
    """

    @compiling.kept(**_COMPILE)
    def render(*arguments):
        if sources >= 0:
            _render(*arguments)

    return render


render = _compiled(_sources(Path(__file__).parent))
