"""What the kernels that multiply matrices share: products of tiles, and the sizes and places of tiles."""

import triton
import triton.language as tl
from fastcifar.kernels import gpu
from torch import Tensor

INTERPRETED = tl.constexpr(gpu.INTERPRETED)


@triton.jit
def product(x, y, before):
    """Return the float32 matrix product of x and y, plus ``before`` unless it is None."""
    if INTERPRETED:  # the interpreter would multiply the bit patterns of bfloat16
        x, y = x.to(tl.float32), y.to(tl.float32)
    return tl.dot(x, y, before, input_precision="ieee")


def wide(values: int) -> int:
    """Return the side of a tile that holds ``values`` values: a power of two that tensor cores multiply."""
    return max(16, triton.next_power_of_2(values))


def between_runs(x: Tensor) -> int:
    """Return the number of values from one run's part of x to the next one's; 0 where the runs share x, (1, ...)."""
    return x[0].numel() if len(x) > 1 else 0
