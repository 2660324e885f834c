"""Linear layers of few values, of several runs, by Triton kernels.

Shape suffix: R runs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fastcifar.packs.linear import Product, product

MOST = 128  # values of inputs and results that the kernels take


def is_small(layer: Product) -> bool:
    """Return whether the kernels take a layer."""
    return layer.bias is not None and max(layer.weight.shape) <= MOST


class SmallLinear(Product):
    """A linear layer by the kernels where its weights have a low dtype, in which a stack trains; else as `Product`."""

    def __init__(self, like: Product) -> None:
        """Take over the parameters of ``like``."""
        torch.nn.Module.__init__(self)
        self.weight, self.bias = like.weight, like.bias

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.dtype == torch.float32:
            return product(x, self.weight, self.bias)
        return PerRun.apply(x, self.weight, self.bias)


class PerRun(torch.autograd.Function):
    """Under vmap, `Small` of all runs."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(x.to(weight.dtype), weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        raise NotImplementedError("only a stack trains with this function; under vmap `Small` differentiates it")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, int]:
        x_R = x[None] if in_dims[0] is None else x.movedim(in_dims[0], 0)
        return Small.apply(x_R, weight, bias), 0


class Small(torch.autograd.Function):
    """(R or 1, ..., in) times weights (R, out, in), plus biases (R, out): (R, ..., out) in the dtype of the weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        from fastcifar.kernels.gpu import linear

        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        return linear.linear(x, weight, bias.contiguous())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        from fastcifar.kernels.gpu import linear

        x, weight = ctx.saved_tensors
        return linear.linear_gradients(x, weight, upstream.contiguous(), of_x=ctx.needs_input_grad[0])
