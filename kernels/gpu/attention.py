"""Attention of short sequences with small heads by Triton: a launch forward, and one backward.

torch's fused attention on CUDA works on tiles of 64 or 128 tokens and heads of 32 values or more, which for 65 tokens
and heads of 5 are mostly padding. It also wants queries, keys and values apart. Here a warp reads a head of an image
from the result of the projection as it lies in memory. All keys fit in its registers, so it needs no statistics of
rows from memory: the backward computes the weights again from queries and keys.

Keys are two tiles of a power of two tokens, for example 64 and 16 for 65 tokens. Queries come in blocks of ROWS.
Products take operands in the dtype of the tensors and are summed in float32; the softmax is float32.
"""

import torch
import triton
import triton.language as tl
from fastcifar.kernels.gpu.tiles import product
from torch import Tensor

from fastcifar.system.devices import on

ROWS = 16  # queries of a block: the smallest tile of a tensor core
WARPS = {torch.float32: 4}  # of a program, by dtype; others have one. Exact float32 takes no tensor cores
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _places(first, COUNT: tl.constexpr, ROW: tl.constexpr, TOKENS: tl.constexpr, SIZE: tl.constexpr,
            WIDE: tl.constexpr):  # fmt: skip
    """Return the offsets of a head's values of COUNT tokens in rows of ROW values, and which of them exist."""
    t, e = first + tl.arange(0, COUNT), tl.arange(0, WIDE)
    return t[:, None] * ROW + e[None, :], (t < TOKENS)[:, None] & (e < SIZE)[None, :]


@triton.jit
def _keys_values(packed, first, COUNT: tl.constexpr, ACROSS: tl.constexpr, TOKENS: tl.constexpr, SIZE: tl.constexpr,
                 WIDE: tl.constexpr):  # fmt: skip
    """Return keys and values of a head's tokens first, first + 1, ..., (COUNT, WIDE) each."""
    at, here = _places(first, COUNT, 3 * ACROSS, TOKENS, SIZE, WIDE)
    return tl.load(packed + ACROSS + at, here, 0.0), tl.load(packed + 2 * ACROSS + at, here, 0.0)


@triton.jit
def _inner(x):
    """Return (tokens, values) with at least 16 values, by zeros between them: tensor cores sum 16 products at once.

    Both operands of a product get the zeros at the same places, so that the sum is the same.
    """
    if x.shape[1] < 16:
        x = tl.reshape(tl.join(x, tl.zeros_like(x)), (x.shape[0], 2 * x.shape[1]))
    return x


@triton.jit
def _along(x, y):
    """Return the products of all rows of x with all rows of y, float32."""
    return product(_inner(x), tl.trans(_inner(y)), None)


@triton.jit
def _exponentials(q, k, k_rest, SCALE: tl.constexpr, TOKENS: tl.constexpr):
    """Return the weights of the keys of both tiles before the softmax divides them, and the divisor of each query."""
    main, rest = _along(q, k), _along(q, k_rest)
    if k.shape[0] > TOKENS:
        main = tl.where((tl.arange(0, k.shape[0]) < TOKENS)[None, :], main, float("-inf"))
    rest = tl.where((tl.arange(0, k_rest.shape[0]) < TOKENS - k.shape[0])[None, :], rest, float("-inf"))
    most = tl.maximum(tl.max(main, 1), tl.max(rest, 1))[:, None] * (SCALE * LOG2_E)
    main, rest = tl.exp2(main * (SCALE * LOG2_E) - most), tl.exp2(rest * (SCALE * LOG2_E) - most)
    return main, rest, tl.sum(main, 1) + tl.sum(rest, 1)


@triton.jit
def write_attention(
    packed, out, HEADS: tl.constexpr, TOKENS: tl.constexpr, SIZE: tl.constexpr, SCALE: tl.constexpr,
    ROWS: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Program n * HEADS + h attends in head h of image n.

    packed: (N, TOKENS, 3, HEADS, SIZE), queries, keys and values. out: (N, TOKENS, HEADS, SIZE), of the same dtype.
    MAIN, REST: tokens of the two tiles of keys, together at least TOKENS. WIDE: SIZE, rounded up to a power of two.
    """
    ACROSS: tl.constexpr = HEADS * SIZE
    image, head = (tl.program_id(0) // HEADS).to(tl.int64), tl.program_id(0) % HEADS
    packed += image * (TOKENS * 3 * ACROSS) + head * SIZE
    out += image * (TOKENS * ACROSS) + head * SIZE
    k, v = _keys_values(packed, 0, MAIN, ACROSS, TOKENS, SIZE, WIDE)
    k_rest, v_rest = _keys_values(packed, MAIN, REST, ACROSS, TOKENS, SIZE, WIDE)
    for first in range(0, TOKENS, ROWS):
        of_block, there = _places(first, ROWS, 3 * ACROSS, TOKENS, SIZE, WIDE)
        q = tl.load(packed + of_block, there, 0.0)
        main, rest, total = _exponentials(q, k, k_rest, SCALE, TOKENS)
        attended = product(rest.to(v.dtype), v_rest, product(main.to(v.dtype), v, None)) / total[:, None]
        of_block, there = _places(first, ROWS, ACROSS, TOKENS, SIZE, WIDE)
        tl.store(out + of_block, attended.to(out.dtype.element_ty), there)


@triton.jit
def write_attention_gradients(
    packed, upstream, out, HEADS: tl.constexpr, TOKENS: tl.constexpr, SIZE: tl.constexpr, SCALE: tl.constexpr,
    ROWS: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Program n * HEADS + h does the backward of head h of image n, and alone writes its gradients.

    upstream: the gradient of `write_attention`'s out. out: the gradient of packed. No sum is shared between programs,
    so there are no atomic operations, and the bits are the same each time.
    """
    ACROSS: tl.constexpr = HEADS * SIZE
    image, head = (tl.program_id(0) // HEADS).to(tl.int64), tl.program_id(0) % HEADS
    packed += image * (TOKENS * 3 * ACROSS) + head * SIZE
    out += image * (TOKENS * 3 * ACROSS) + head * SIZE
    upstream += image * (TOKENS * ACROSS) + head * SIZE
    k, v = _keys_values(packed, 0, MAIN, ACROSS, TOKENS, SIZE, WIDE)
    k_rest, v_rest = _keys_values(packed, MAIN, REST, ACROSS, TOKENS, SIZE, WIDE)
    of_k, of_v = tl.zeros((MAIN, WIDE), tl.float32), tl.zeros((MAIN, WIDE), tl.float32)
    of_k_rest, of_v_rest = tl.zeros((REST, WIDE), tl.float32), tl.zeros((REST, WIDE), tl.float32)
    for first in range(0, TOKENS, ROWS):
        of_block, there = _places(first, ROWS, ACROSS, TOKENS, SIZE, WIDE)
        g = tl.load(upstream + of_block, there, 0.0)
        of_block, there = _places(first, ROWS, 3 * ACROSS, TOKENS, SIZE, WIDE)
        q = tl.load(packed + of_block, there, 0.0)
        main, rest, total = _exponentials(q, k, k_rest, SCALE, TOKENS)
        # the weights are not divided, but the upstream gradient, which has fewer values
        g = (g / total[:, None]).to(q.dtype)
        of_main, of_rest = _along(g, v), _along(g, v_rest)
        mean = (tl.sum(main * of_main, 1) + tl.sum(rest * of_rest, 1))[:, None] / total[:, None]
        of_main, of_rest = (main * (of_main - mean)).to(q.dtype), (rest * (of_rest - mean)).to(q.dtype)
        main, rest = main.to(q.dtype), rest.to(q.dtype)
        of_v, of_v_rest = product(tl.trans(main), g, of_v), product(tl.trans(rest), g, of_v_rest)
        of_q = product(of_rest, k_rest, product(of_main, k, None))
        tl.store(out + of_block, (of_q * SCALE).to(out.dtype.element_ty), there)
        of_k, of_k_rest = product(tl.trans(of_main), q, of_k), product(tl.trans(of_rest), q, of_k_rest)
    at, here = _places(0, MAIN, 3 * ACROSS, TOKENS, SIZE, WIDE)
    tl.store(out + ACROSS + at, (of_k * SCALE).to(out.dtype.element_ty), here)
    tl.store(out + 2 * ACROSS + at, of_v.to(out.dtype.element_ty), here)
    at, here = _places(MAIN, REST, 3 * ACROSS, TOKENS, SIZE, WIDE)
    tl.store(out + ACROSS + at, (of_k_rest * SCALE).to(out.dtype.element_ty), here)
    tl.store(out + 2 * ACROSS + at, of_v_rest.to(out.dtype.element_ty), here)


def attention(packed: Tensor) -> Tensor:
    """Return attention's (N, T, H, E), of packed (N, T, 3, H, E): queries, keys and values, contiguous.

    Each head is softmax(q @ k.T / sqrt(E)) @ v.
    """
    out = torch.empty_like(packed[:, :, 0], memory_format=torch.contiguous_format)
    with on(packed.device):
        write_attention[(len(packed) * packed.shape[3],)](packed, out, **_options(packed))
    return out


def attention_gradients(packed: Tensor, upstream: Tensor) -> Tensor:
    """Return the gradient of packed of `attention`. upstream: the gradient of its result, contiguous."""
    out = torch.empty_like(packed)
    with on(packed.device):
        write_attention_gradients[(len(packed) * packed.shape[3],)](packed, upstream, out, **_options(packed))
    return out


def _options(packed: Tensor) -> dict[str, int | float]:
    """Return the constants of both kernels for packed (N, T, 3, H, E)."""
    tokens, heads, size = packed.shape[1], *packed.shape[3:]
    main = max(16, 1 << (tokens.bit_length() - 1))
    rest = max(16, triton.next_power_of_2(tokens - main))
    return {
        "HEADS": heads, "TOKENS": tokens, "SIZE": size, "SCALE": size**-0.5, "ROWS": ROWS, "MAIN": main, "REST": rest,
        "WIDE": max(8, triton.next_power_of_2(size)), "num_warps": WARPS.get(packed.dtype, 1),
    }  # fmt: skip
