"""The CNN's convolutions of several runs: each with its bias and ReLU as one Triton kernel.

Shape suffixes: R runs, B batch, C channels, H height, W width, N channels of the result.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d

from fastcifar.packs.fused.under_vmap import UnderVmap, by_run


def activated(convolution: nn.Module, x: Tensor) -> Tensor:
    """Return what `CNN._activated` returns, in the dtype of x. In mixed precision this is the low dtype."""
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.bias is not None
    weight, bias = convolution.weight.to(x.dtype), convolution.bias.to(x.dtype)
    return PerRun.apply(x, weight, bias, convolution.stride[0], int(convolution.padding[0]))


class PerRun(UnderVmap):
    """Under vmap, `Activated` of all runs."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
        return conv2d(x, weight, bias, stride, padding).relu()

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int
    ) -> tuple[Tensor, int]:
        return Activated.apply(by_run(x, in_dims[0]), weight, bias, stride, padding), 0


class Activated(torch.autograd.Function):
    """ReLU of the convolutions of (R or 1, B, C, H, W) with weights (R, N, C, kernel, kernel): (R, B, N, H', W')."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
        from fastcifar.kernels.gpu import convolution

        x_BHWC, weight_NKKC = _channels_last(x), _channels_last(weight)
        ctx.sizes = convolution.Sizes(x.shape[3], x.shape[2], weight.shape[1], weight.shape[3], stride, padding)
        out = convolution.convolved(x_BHWC, weight_NKKC, bias.contiguous(), ctx.sizes)
        ctx.save_for_backward(x_BHWC, weight_NKKC, out)
        return out.permute(0, 1, 4, 2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        from fastcifar.kernels.gpu import convolution

        x_BHWC, weight_NKKC, out = ctx.saved_tensors
        of_x, of_weight, of_bias = convolution.gradients(
            x_BHWC, weight_NKKC, out, _channels_last(upstream), ctx.sizes, of_x=ctx.needs_input_grad[0]
        )
        if of_x is not None:
            of_x = of_x.permute(0, 1, 4, 2, 3)
        return of_x, of_weight.permute(0, 1, 4, 2, 3), of_bias, None, None


def _channels_last(x: Tensor) -> Tensor:
    """Return (R, B, C, H, W) as contiguous (R, B, H, W, C): a view of channels_last memory, else a copy."""
    return x.permute(0, 1, 3, 4, 2).contiguous()
