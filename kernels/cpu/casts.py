"""Casts of float32 to the bits of bfloat16 and float16, in LLVM's instructions, for one value and for vectors alike.

LLVM's own casts are not used. For bfloat16, some processors take subnormal numbers for 0. For float16, LLVM calls a
library function where the processor has no such instruction.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic


def every(kind: ir.Type, number: float) -> ir.Constant:
    """Return the constant ``number`` of an LLVM type: a number type, or a vector with every element the same."""
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def like(kind: ir.Type, element: ir.Type) -> ir.Type:
    """Return the LLVM type with this element and as many elements as ``kind``: ``element`` itself for one value."""
    return ir.VectorType(element, kind.count) if isinstance(kind, ir.VectorType) else element


def to_bfloat16(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Return the bits of the bfloat16 nearest to a float32, ties to even, as LLVM's i16."""
    u = builder.bitcast(x, words := like(x.type, ir.IntType(32)))
    odd = builder.and_(builder.lshr(u, every(words, 16)), every(words, 1))
    rounded = builder.add(builder.add(u, every(words, 0x7FFF)), odd)
    return builder.trunc(builder.lshr(rounded, every(words, 16)), like(words, ir.IntType(16)))


def to_float16(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Return the bits of the float16 nearest to a float32, ties to even, as LLVM's i16.

    Below 2**-14 (the subnormal numbers), adding 0.5 rounds to the multiple of 2**-24 that float16 holds.
    """
    signed = builder.bitcast(x, words := like(x.type, ir.IntType(32)))
    u = builder.and_(signed, every(words, 0x7FFFFFFF))
    odd = builder.and_(builder.lshr(u, every(words, 13)), every(words, 1))
    normal = builder.add(builder.add(u, every(words, 0xFFF - (112 << 23))), odd)
    normal = builder.lshr(normal, every(words, 13))
    largest = every(words, 0x7C00)
    normal = builder.select(builder.icmp_unsigned("<", normal, largest), normal, largest)
    tiny = builder.fadd(builder.bitcast(u, x.type), every(x.type, 0.5))
    tiny = builder.sub(builder.bitcast(tiny, words), every(words, 0x3F000000))
    half = builder.select(builder.icmp_unsigned("<", u, every(words, 0x38800000)), tiny, normal)
    sign = builder.and_(builder.lshr(signed, every(words, 16)), every(words, 0x8000))
    return builder.trunc(builder.or_(half, sign), like(words, ir.IntType(16)))


@intrinsic
def bfloat16(context, x):
    """Return the bits of the bfloat16 nearest to a float32, as uint16."""
    return types.uint16(types.float32), lambda _, builder, signature, arguments: to_bfloat16(builder, *arguments)


@intrinsic
def float16(context, x):
    """Return the bits of the float16 nearest to a float32, as uint16."""
    return types.uint16(types.float32), lambda _, builder, signature, arguments: to_float16(builder, *arguments)
