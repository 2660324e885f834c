"""Compiled functions that enlarge an image: along the rows first, then between the rows, cast and written in one pass.

Only two stretched rows are kept, in the L1 cache. Both steps are written as vectors in LLVM's instructions, because
LLVM does not make vectors of such loops by itself. The operations and their order are the reference's, so the bits are,
too. A vector that is written is a cache line, 64 bytes; LLVM splits it for processors with shorter vectors.

**Streaming.** An ordinary store reads its cache line from memory first, and the line then displaces another one.
Streamed lines go to memory directly. Between streaming stores, no slice of an array may be taken: numba counts the
references to an array atomically, and an atomic operation waits until all stores are done.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from fastcifar.kernels.cpu import casts
from fastcifar.kernels.reference import resize_taps
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from fastcifar.augment import IMAGE_SIZE

LINE = 64  # bytes of a cache line
FLOAT32, FLOAT16, BFLOAT16 = range(3)
FIVE = 5  # the pixels that _stretch_five writes: 15 values of a vector of 16
SLACK = 16  # the values behind a row that _stretch_five may overwrite
WIDE = 3 * IMAGE_SIZE  # the values of a source row
_FLOAT, _WORD = ir.FloatType(), ir.IntType(32)
_COMPILE = {"nogil": True, "error_model": "numpy"}


class Taps(NamedTuple):
    """The tables of an enlargement to S x S pixels. Without an enlargement, all of them are empty.

    first: (S,) int64, the first of the two source rows of each row. weight: (S,) float32, the weight of the second.
    fives: (F, 2) int64, for each call of `_stretch_five` the position in a row where it writes and the position in the
    source row where it reads, in values. The calls go from left to right. weights: (3 S + SLACK,) float32, the weight
    of the second source pixel for each value of a row.
    """

    first: NDArray[np.int64]
    weight: NDArray[np.float32]
    fives: NDArray[np.int64]
    weights: NDArray[np.float32]


def taps(size: tuple[int, int] | None) -> Taps:
    """Return the tables of an enlargement. size: as in `Augment`."""
    if size is None:
        return Taps(np.empty(0, np.int64), np.empty(0, np.float32), np.empty((0, 2), np.int64), np.empty(0, np.float32))
    first, weight = resize_taps(*size)
    starts = np.searchsorted(first, np.arange(IMAGE_SIZE))  # the first column between source pixels k and k + 1
    fives = [(3 * c, 3 * k) for k in range(IMAGE_SIZE - 1) for c in range(starts[k], starts[k + 1], FIVE)]
    return Taps(first, weight, np.array(fives), np.append(np.repeat(weight, 3), np.zeros(SLACK, np.float32)))


def _pointer(
    context: Any, builder: ir.IRBuilder, kind: types.Array, array: ir.Value, at: ir.Value, pointed: ir.Type
) -> ir.Value:
    """Return the address of element ``at`` of an array of numba's type ``kind``, as a pointer to an LLVM type."""
    data = make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), pointed.as_pointer())


def _between(builder: ir.IRBuilder, left: ir.Value, right: ir.Value, weight: ir.Value) -> ir.Value:
    """Return left * (1 - weight) + right * weight for vectors of float32."""
    rest = builder.fsub(casts.every(weight.type, 1.0), weight)
    return builder.fadd(builder.fmul(left, rest), builder.fmul(right, weight))


@intrinsic
def _stretch_five(context, rows, to, source, at, weights, column):
    """Write five pixels to rows[to : to + 15]. They lie between the pixels source[at : at + 3] and [at + 3 : at + 6].

    weights[column : column + 15]: the weight of the second pixel for each value. All arrays are float32. So that loads
    and stores are whole vectors, two more values of the source are read, and one more value is written, which the next
    call overwrites.
    """

    def generate(context, builder, signature, arguments):
        rows, to, source, at, weights, column = arguments
        eight, sixteen = ir.VectorType(_FLOAT, 8), ir.VectorType(_FLOAT, 16)
        pixels = builder.load(_pointer(context, builder, signature.args[2], source, at, eight), align=4)
        left, right = (
            builder.shuffle_vector(
                pixels, pixels, ir.Constant(ir.VectorType(_WORD, 16), [pixel + k % 3 for k in range(16)])
            )
            for pixel in (0, 3)
        )
        weight = builder.load(_pointer(context, builder, signature.args[4], weights, column, sixteen), align=4)
        place = _pointer(context, builder, signature.args[0], rows, to, sixteen)
        builder.store(_between(builder, left, right, weight), place, align=4)
        return context.get_dummy_value()

    return types.void(rows, to, source, at, weights, column), generate


def _blend(cast: Callable[[ir.IRBuilder, ir.Value], ir.Value], item: int) -> Any:
    """Return a compiled function that blends two stretched rows, casts the result and writes it to ``out``.

    cast: takes LLVM's builder and a vector of float32, and returns the vector of results. item: the bytes of a result.
    """
    line = LINE // item

    @intrinsic
    def blend_line(context, out, to, rows, upper, lower, w, streams):
        """Write a line to out[to:]. upper, lower: positions in ``rows``. w: the weight of the lower row."""

        def generate(context, builder, signature, arguments):
            out, to, rows, upper, lower, w, streams = arguments
            floats = ir.VectorType(_FLOAT, line)
            above, below = (
                builder.load(_pointer(context, builder, signature.args[2], rows, at, floats), align=4)
                for at in (upper, lower)
            )
            one = builder.insert_element(ir.Constant(floats, ir.Undefined), w, _WORD(0))
            weight = builder.shuffle_vector(one, one, casts.every(ir.VectorType(_WORD, line), 0))
            results = cast(builder, _between(builder, above, below, weight))
            place = _pointer(context, builder, signature.args[0], out, to, results.type)
            with builder.if_else(streams) as (streamed, cached):
                with streamed:
                    store = builder.store(results, place, align=LINE)
                    store.set_metadata("nontemporal", builder.module.add_metadata([_WORD(1)]))
                with cached:
                    builder.store(results, place, align=item)
            return context.get_dummy_value()

        return types.void(out, to, rows, upper, lower, w, streams), generate

    @numba.njit(**_COMPILE)
    def blend(out, to, rows, upper, lower, w, wide, streams):
        """Write out[to : to + wide]. The other arguments are those of `blend_line` and `enlarge`."""
        for k in range(0, wide, line):
            at = min(k, wide - line)  # the last line of a row may overlap the one before
            blend_line(out, to + at, rows, upper + at, lower + at, w, streams)

    return blend


_blend_float32 = _blend(lambda _, x: x, 4)
_blend_float16, _blend_bfloat16 = _blend(casts.to_float16, 2), _blend(casts.to_bfloat16, 2)


@intrinsic
def _fence(context):
    """Wait until all streamed lines are written. Later stores may then go to the same lines."""

    def generate(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@numba.njit(**_COMPILE)
def enlarge(source, rows, first, weight, fives, weights, out32, out16, begin, dtype, streams):
    """Write an enlarged image: to out32[begin:] where dtype is FLOAT32, else its bits to out16[begin:].

    source: (3074,) float32, a normalised image, channels interleaved, and two more values. rows: (2 * (3 S + SLACK),)
    float32, memory for the two stretched rows. first to weights: `Taps`. streams: whether the image is written past the
    caches. If so, each of its rows must begin at an address that is a multiple of LINE bytes.
    """
    wide, room = first.shape[0] * 3, rows.shape[0] // 2
    stretched = first[0]
    for row in range(first.shape[0]):
        above = first[row]
        while stretched < above + 2:
            for k in range(fives.shape[0]):
                column = fives[k, 0]
                to, at = (stretched & 1) * room + column, stretched * WIDE + fives[k, 1]
                _stretch_five(rows, to, source, at, weights, column)
            stretched += 1
        upper = (above & 1) * room
        lower, to, w = room - upper, begin + row * wide, weight[row]
        if dtype == FLOAT32:
            _blend_float32(out32, to, rows, upper, lower, w, wide, streams)
        elif dtype == BFLOAT16:
            _blend_bfloat16(out16, to, rows, upper, lower, w, wide, streams)
        else:
            _blend_float16(out16, to, rows, upper, lower, w, wide, streams)
    if streams:
        _fence()
