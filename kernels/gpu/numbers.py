"""Random numbers of many samples, one thread for each: the table of draws for `pixels.augment`, and sort keys."""

import triton
import triton.language as tl
from fastcifar.kernels.gpu import dice

from fastcifar.rng.philox import Stream

COLUMNS = tl.constexpr(20)  # the fields of Draws in their order: four columns for ``order``, floats as their bits
SAMPLES = 128  # samples for each program of four warps
COMPILE = {"num_warps": 4, "enable_fp_fusion": False}
_ORDER = tl.constexpr(int(Stream.ORDER))


@triton.jit(do_not_specialize=["batch", "stride"], do_not_specialize_on_alignment=["order", "clock"])
def write_draws(
    order, clock, bounds, orders, table, batch, groups, stride, SAMPLES: tl.constexpr, GROUPED: tl.constexpr
):  # fmt: skip
    """Program (i, g) writes the draws of samples [i * SAMPLES, (i + 1) * SAMPLES) of a batch.

    order, clock, bounds, orders, groups, stride, GROUPED: the arguments of `pixels.augment`. table: (batch, COLUMNS)
    int32, for each of the groups.
    """
    if GROUPED:
        group = tl.load(groups + tl.program_id(1))
        order, clock = order + group * stride, clock + group * 3
        table += tl.program_id(1).to(tl.int64) * batch * COLUMNS
    n = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    here = n < batch
    seed, epoch = tl.load(clock), tl.load(clock + 1)
    sample = tl.load(order + tl.load(clock + 2) * batch + n, here, 0)
    row = table + n * COLUMNS
    flip, order_number, angle, cos, sin, erases = dice.gates(seed, sample, epoch, bounds)
    tl.store(row, flip.to(tl.int32), here)
    for step in tl.static_range(4):
        tl.store(row + 1 + step, tl.load(orders + order_number * 4 + step).to(tl.int32), here)
    brightness, contrast, saturation, hue = dice.factors(seed, sample, epoch, bounds)
    tl.store(row + 5, brightness.to(tl.int32, bitcast=True), here)
    tl.store(row + 6, contrast.to(tl.int32, bitcast=True), here)
    tl.store(row + 7, saturation.to(tl.int32, bitcast=True), here)
    tl.store(row + 8, hue.to(tl.int32, bitcast=True), here)
    tl.store(row + 9, angle.to(tl.int32), here)
    tl.store(row + 10, cos.to(tl.int32), here)
    tl.store(row + 11, sin.to(tl.int32), here)
    top, left, height, width = dice.draw_rectangle(seed, sample, epoch, bounds, erases & here, True)
    tl.store(row + 12, top, here)
    tl.store(row + 13, left, here)
    tl.store(row + 14, height, here)
    tl.store(row + 15, width, here)
    crop_top, crop_left, cut_top, cut_left = dice.places(seed, sample, epoch, bounds)
    tl.store(row + 16, crop_top, here)
    tl.store(row + 17, crop_left, here)
    tl.store(row + 18, cut_top, here)
    tl.store(row + 19, cut_left, here)


@triton.jit(do_not_specialize=["count"], do_not_specialize_on_alignment=["ids", "clock"])
def write_keys(ids, clock, keys, count, SAMPLES: tl.constexpr):
    """Program i writes the sort keys of ids [i * SAMPLES, (i + 1) * SAMPLES).

    A stable sort of the ids by these keys gives the order of `philox.shuffled`. ids: (count,) int64. clock: int64 seed
    and epoch. keys: (count,) int64, each a random 64-bit number minus 2**63, so that signed numbers sort like unsigned
    ones.
    """
    n = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    here = n < count
    sample = tl.load(ids + n, here, 0)
    high, low, _, _ = dice.philox_words(tl.load(clock), sample, tl.load(clock + 1), _ORDER, 0)
    key = (high.to(tl.int64) << 32) | low.to(tl.int64)
    tl.store(keys + n, key ^ (-(1 << 63)), here)
