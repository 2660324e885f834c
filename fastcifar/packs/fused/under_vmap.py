"""What the functions share that a stack calls under vmap. Their vmap rule calls another, which torch differentiates."""

from typing import Any

import torch
from torch import Tensor


class UnderVmap(torch.autograd.Function):
    """The base of such functions, which have ``forward``, for a single network, and ``vmap``, the rule."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        raise NotImplementedError("only a stack trains with this function; under vmap torch differentiates another one")


def by_run(x: Tensor, dim: int | None) -> Tensor:
    """Return x with its run dimension first, (R, ...); (1, ...) where the runs share it.

    dim: the run dimension, as vmap tells it; None where the runs share x.
    """
    return x[None] if dim is None else x.movedim(dim, 0)
