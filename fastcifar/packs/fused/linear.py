"""Linear layers of few values, of several runs, by Triton kernels.

Shape suffix: R runs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fastcifar.packs.fused.under_vmap import UnderVmap, by_run
from fastcifar.packs.linear import Product

MOST = 128  # values of inputs and results that the kernels take


def is_small(layer: Product) -> bool:
    """Return whether the kernels take a layer."""
    return layer.bias is not None and max(layer.weight.shape) <= MOST


class SmallLinear(Product):
    """A linear layer by the kernels where its weights have a low dtype, in which a stack trains; else as `Product`."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.dtype == torch.float32:
            return super().forward(x)
        return PerRun.apply(x, self.weight, self.bias)


class PerRun(UnderVmap):
    """Under vmap, `Small` of all runs."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(x.to(weight.dtype), weight, bias)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, int]:
        return Small.apply(by_run(x, in_dims[0]), weight, bias), 0


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
