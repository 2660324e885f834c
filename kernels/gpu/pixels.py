"""The Triton kernels that make pixels: augmentation and enlargement. The augmentation has one program for each image,
which holds it in registers as three planes of 1,024 float32.

The operations and their order are those of ``kernels/reference``. Without fused multiply-adds they give the same bits.
"""

import triton
import triton.language as tl
from fastcifar.kernels.gpu import dice, numbers

PIXELS = tl.constexpr(1024)
VALUES = tl.constexpr(3 * 1024)
_SIZE = tl.constexpr(32)
_SHARE = tl.constexpr(1 / 1024)  # the weight of a pixel in the mean; a power of two, so the same as dividing
_PER_LEVEL = tl.constexpr(1 / 255)
_RED, _GREEN, _BLUE = tl.constexpr(0.2989), tl.constexpr(0.587), tl.constexpr(0.114)
COLUMNS = numbers.COLUMNS
UNPADDED, ZEROS, REFLECTED = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


@triton.jit
def _clamp(x):
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
def _grey(r, g, b):
    return r * _RED + g * _GREEN + b * _BLUE


@triton.jit
def _sector(value, chroma, k):
    """Return one channel of HSV's inverse. k: in [0, 12), in sixths of a turn."""
    k = tl.where(k >= 6.0, k - 6.0, k)
    return value - chroma * _clamp(tl.minimum(k, 4.0 - k))


@triton.jit
def _hue(r, g, b, turn):
    value, low = tl.maximum(tl.maximum(r, g), b), tl.minimum(tl.minimum(r, g), b)
    chroma = value - low
    # The numerator is chosen first, so that one division is enough.
    numerator = tl.where(r == value, g - b, tl.where(g == value, b - r, r - g))
    start = tl.where(r == value, 0.0, tl.where(g == value, 2.0, 4.0))
    h = start + tl.math.div_rn(numerator, tl.where(chroma > 0.0, chroma, 1.0)) + 6.0 * turn
    h = tl.where(h < 0.0, h + 6.0, h)
    h = tl.where(h >= 6.0, h - 6.0, h)
    return _sector(value, chroma, 5.0 + h), _sector(value, chroma, 3.0 + h), _sector(value, chroma, 1.0 + h)


@triton.jit
def _jitter(r, g, b, part, brightness, contrast, saturation, hue):
    """Apply one of the four parts of the jitter. All threads take the same branch, as the part is the image's."""
    if part == 0:
        r, g, b = _clamp(r * brightness), _clamp(g * brightness), _clamp(b * brightness)
    elif part == 1:
        # In float64 the sum is exact for all but very rare images, so the order of the additions does not matter.
        mean = (tl.sum(_grey(r, g, b).to(tl.float64), 0) * _SHARE).to(tl.float32)
        rest = (1.0 - contrast) * mean
        r, g, b = _clamp(contrast * r + rest), _clamp(contrast * g + rest), _clamp(contrast * b + rest)
    elif part == 2:
        rest = (1.0 - saturation) * _grey(r, g, b)
        r, g, b = _clamp(saturation * r + rest), _clamp(saturation * g + rest), _clamp(saturation * b + rest)
    else:
        r, g, b = _hue(r, g, b, hue)
    return r, g, b


@triton.jit
def _normalised(plane, normal):
    return (plane - tl.load(normal)) * tl.load(normal + 3)


@triton.jit
def _turned_back(y, x, cos, sin):
    """Return the line and column of the source pixel that the rotation moves to (y, x).

    Positions are offsets from the centre (odd multiples of half a pixel) times cosine and sine, in units of 2**-25
    pixel. They are below 2**31.
    """
    dx, dy, centre = 2 * x - (_SIZE - 1), 2 * y - (_SIZE - 1), ((_SIZE - 1) << 24) + (1 << 24)
    return (sin * dx + cos * dy + centre) >> 25, (cos * dx - sin * dy + centre) >> 25


@triton.jit
def _within(line, column, top, left, height, width):
    return (line >= top) & (line < top + height) & (column >= left) & (column < left + width)


@triton.jit
def _reflected(at):
    """Return the position in [0, 31] that a position in [-31, 62] mirrors."""
    return -tl.abs(tl.abs(at) - (_SIZE - 1)) + (_SIZE - 1)  # a constexpr on the left would hide the tensor


@triton.jit
def _source_pixels(flip, top, left, PADDING: tl.constexpr):
    """Return the index of the source pixel of each of the 1,024 pixels, and whether it lies in the image.

    The image is cropped before it is flipped, so the way back from output to source flips first. PADDING: UNPADDED,
    ZEROS or REFLECTED.
    """
    p = tl.arange(0, PIXELS) ^ tl.where(flip, _SIZE - 1, 0)
    inside = p >= 0
    if PADDING != UNPADDED:
        line, column = p // _SIZE + top, p % _SIZE + left
        if PADDING == ZEROS:
            inside = _within(line, column, 0, 0, _SIZE, _SIZE)
        p = _reflected(line) * _SIZE + _reflected(column)
    return p, inside


@triton.jit
def cast(x, DTYPE: tl.constexpr, BY_HAND: tl.constexpr):
    """Cast float32 to DTYPE, rounded to nearest, ties to even.

    BY_HAND: round to bfloat16 with integer operations, because Triton's interpreter truncates.
    """
    if BY_HAND and tl.bfloat16 == DTYPE:
        u = x.to(tl.uint32, bitcast=True)
        x = ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    return x.to(DTYPE)


# These arguments are read number by number and may have any alignment, for example a batch in the middle of an order.
@triton.jit(
    do_not_specialize=["batch", "stride"],
    do_not_specialize_on_alignment=["labels", "order", "clock", "given", "out_labels", "out_ids"],
)
def augment(
    images, labels, order, clock, bounds, orders, given, normal, out, rectangles, out_labels, out_ids, batch, groups,
    stride, PADDING: tl.constexpr, JITTERS: tl.constexpr, ROTATES: tl.constexpr, ERASES: tl.constexpr,
    CUTOUT: tl.constexpr, ENLARGES: tl.constexpr, GIVEN: tl.constexpr, GROUPED: tl.constexpr, BY_HAND: tl.constexpr,
):  # fmt: skip
    """Program n writes sample n of a batch, without the enlargement.

    images: (N, 3072) uint8. labels: (N,) int64. order: (M,) int64 sample ids. clock: int64 seed, epoch, and number of
    the batch in the order. bounds: see `dice`. orders: (24, 4) int64, the jitter orders. given: the table of
    `numbers.write_draws`, read where GIVEN. normal: (6,) float32, mean and 1 / std.
    out: (batch, 3072), channels interleaved. out_labels, out_ids: (batch,) int64. rectangles: (batch, 6) int32, where
    the enlargement erases: the rectangle's top, left, height and width, then the cutout's top and left. Written where
    ENLARGES. PADDING: see _source_pixels. CUTOUT: the side of the cutout's square in pixels, or 0.

    GROUPED: program (n, g) does this for group groups[g], int64, which has a batch of its own in out, out_labels and
    out_ids, a clock of its own in clock (G, 3), and an order of its own in order, ``stride`` values after the one
    before. Batch g in given and rectangles is that of program (n, g), and in out, too, where ENLARGES.
    """
    n = tl.program_id(0)
    if GROUPED:
        g = tl.program_id(1).to(tl.int64)
        group = tl.load(groups + g)
        order, clock = order + group * stride, clock + group * 3
        out_labels, out_ids = out_labels + group * batch, out_ids + group * batch
        given, rectangles = given + g * batch * COLUMNS, rectangles + g * batch * 6
        out += (g if ENLARGES else group) * batch * VALUES
    seed, epoch = tl.load(clock), tl.load(clock + 1)
    sample = tl.load(order + tl.load(clock + 2) * batch + n)
    tl.store(out_ids + n, sample)
    tl.store(out_labels + n, tl.load(labels + sample))
    if GIVEN:
        row = given + n * COLUMNS
        flip = tl.load(row) != 0
        cos, sin = tl.load(row + 10).to(tl.int64), tl.load(row + 11).to(tl.int64)
    else:
        flip, order_number, _, cos, sin, erases = dice.gates(seed, sample, epoch, bounds)
    if ERASES:  # done first, while no pixels take registers
        if GIVEN:
            top, left, height, width = tl.load(row + 12), tl.load(row + 13), tl.load(row + 14), tl.load(row + 15)
        else:
            top, left, height, width = dice.draw_rectangle(seed, sample, epoch, bounds, erases, False)
    crop_top, crop_left = 0, 0
    if PADDING != UNPADDED or CUTOUT:
        if GIVEN:
            crop_top, crop_left = tl.load(row + 16), tl.load(row + 17)
            cut_top, cut_left = tl.load(row + 18), tl.load(row + 19)
        else:
            crop_top, crop_left, cut_top, cut_left = dice.places(seed, sample, epoch, bounds)
    p, inside = _source_pixels(flip, crop_top, crop_left, PADDING)
    source = images + sample * VALUES + p * 3
    r = tl.load(source).to(tl.float32) * _PER_LEVEL
    g = tl.load(source + 1).to(tl.float32) * _PER_LEVEL
    b = tl.load(source + 2).to(tl.float32) * _PER_LEVEL
    if PADDING == ZEROS:
        r, g, b = tl.where(inside, r, 0.0), tl.where(inside, g, 0.0), tl.where(inside, b, 0.0)
    if JITTERS:
        if GIVEN:
            brightness = tl.load(row + 5).to(tl.float32, bitcast=True)
            contrast = tl.load(row + 6).to(tl.float32, bitcast=True)
            saturation = tl.load(row + 7).to(tl.float32, bitcast=True)
            hue = tl.load(row + 8).to(tl.float32, bitcast=True)
        else:
            brightness, contrast, saturation, hue = dice.factors(seed, sample, epoch, bounds)
        for step in range(4):  # not unrolled, which would repeat the code of all four parts four times
            if GIVEN:
                part = tl.load(row + 1 + step).to(tl.int64)
            else:
                part = tl.load(orders + order_number * 4 + step)
            r, g, b = _jitter(r, g, b, part, brightness, contrast, saturation, hue)
    r, g, b = _normalised(r, normal), _normalised(g, normal + 1), _normalised(b, normal + 2)
    # One gather interleaves the planes and rotates. Each pixel has four values, as sizes are powers of two; the last is
    # not used.
    pixels = tl.join(tl.join(r, b), tl.join(g, b)).reshape(4 * PIXELS)
    k = tl.arange(0, 4 * PIXELS)
    used, channel = k < VALUES, k % 3
    y, x = k // 3 // _SIZE, k // 3 % _SIZE
    if ROTATES:
        line, column = _turned_back(y, x, cos.to(tl.int32), sin.to(tl.int32))
        inside = (column >= 0) & (column < _SIZE) & (line >= 0) & (line < _SIZE)
        black = tl.zeros((4 * PIXELS,), tl.float32)
        outside = tl.where(channel == 0, _normalised(black, normal), _normalised(black, normal + 1))
        outside = tl.where(channel == 2, _normalised(black, normal + 2), outside)
        value = tl.gather(pixels, tl.where(inside & used, (line * _SIZE + column) * 4 + channel, 0), 0)
        value = tl.where(inside, value, outside)
    else:
        value = tl.gather(pixels, tl.where(used, (y * _SIZE + x) * 4 + channel, 0), 0)
    if ERASES:
        if ENLARGES:
            tl.store(rectangles + n * 6, top)
            tl.store(rectangles + n * 6 + 1, left)
            tl.store(rectangles + n * 6 + 2, height)
            tl.store(rectangles + n * 6 + 3, width)
        else:
            value = tl.where(_within(y, x, top, left, height, width), 0.0, value)
    if CUTOUT:
        if ENLARGES:
            tl.store(rectangles + n * 6 + 4, cut_top)
            tl.store(rectangles + n * 6 + 5, cut_left)
        else:
            value = tl.where(_within(y, x, cut_top, cut_left, CUTOUT, CUTOUT), 0.0, value)
    tl.store(out + n.to(tl.int64) * VALUES + k, cast(value, out.dtype.element_ty, BY_HAND), used)


@triton.jit(do_not_specialize=["batch"])
def enlarge(
    small, rectangles, first, weight, row_starts, out, batch, groups, CROP: tl.constexpr, WIDE: tl.constexpr,
    ERASES: tl.constexpr, CUTOUT: tl.constexpr, GROUPED: tl.constexpr, BY_HAND: tl.constexpr,
):  # fmt: skip
    """Program (b, pair, part) writes the output rows of image b between two source rows, WIDE values of each.

    The two source rows are enlarged along their length once, in registers. Each output row blends them.
    small: (B, 3072) float32, normalised, channels interleaved. rectangles: (B, 6) int32 and CUTOUT: see augment.
    first (CROP,) int32, weight (CROP,) float32: the taps of `reference.resize_taps`.
    row_starts: (32,) int32, the first output row of each pair, and the end. out: (B, CROP, CROP, 3).
    GROUPED: image b is number b % batch of the batch of group groups[b // batch], int64, in out.
    """
    b, pair, k = tl.program_id(0), tl.program_id(1), tl.program_id(2) * WIDE + tl.arange(0, WIDE)
    here = k < CROP * 3
    column, channel = k // 3, k % 3
    w = tl.load(weight + column, here, 0.0)
    at = small + b.to(tl.int64) * VALUES + pair * (_SIZE * 3) + tl.load(first + column, here, 0) * 3 + channel
    below = at + _SIZE * 3
    upper = tl.load(at, here, 0.0) * (1.0 - w) + tl.load(at + 3, here, 0.0) * w
    lower = tl.load(below, here, 0.0) * (1.0 - w) + tl.load(below + 3, here, 0.0) * w
    if ERASES:
        top, left = tl.load(rectangles + b * 6), tl.load(rectangles + b * 6 + 1)
        height, width = tl.load(rectangles + b * 6 + 2), tl.load(rectangles + b * 6 + 3)
    if CUTOUT:
        cut_top, cut_left = tl.load(rectangles + b * 6 + 4), tl.load(rectangles + b * 6 + 5)
    to = b.to(tl.int64)
    if GROUPED:
        to = tl.load(groups + b // batch) * batch + b % batch
    target = out + to * (CROP * CROP * 3) + k
    for line in range(tl.load(row_starts + pair), tl.load(row_starts + pair + 1)):
        down = tl.load(weight + line)
        value = upper * (1.0 - down) + lower * down
        if ERASES:
            value = tl.where(_within(line, column, top, left, height, width), 0.0, value)
        if CUTOUT:
            value = tl.where(_within(line, column, cut_top, cut_left, CUTOUT, CUTOUT), 0.0, value)
        tl.store(target + line * (CROP * 3), cast(value, out.dtype.element_ty, BY_HAND), here)
