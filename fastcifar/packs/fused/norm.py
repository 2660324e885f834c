"""LayerNorm of short rows, of several runs, by a Triton kernel."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fastcifar.packs.fused.under_vmap import UnderVmap


class ShortNorm(nn.Module):
    """A LayerNorm of short rows. Parameters keep their names. The result is float32, as autocast makes it on CUDA."""

    def __init__(self, like: nn.LayerNorm) -> None:
        """Take over the parameters of ``like``, which normalises one dimension."""
        super().__init__()
        self.weight, self.bias, self._eps = like.weight, like.bias, like.eps

    def forward(self, x: Tensor) -> Tensor:
        return PerRun.apply(x, self.weight, self.bias, self._eps)


class PerRun(UnderVmap):
    """Under vmap, `Norm` of all runs."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        return F.layer_norm(x.float(), weight.shape, weight, bias, eps)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, int]:
        x_R = x.expand(info.batch_size, *x.shape) if in_dims[0] is None else x.movedim(in_dims[0], 0)
        return Norm.apply(x_R.contiguous(), weight, bias, eps), 0


class Norm(torch.autograd.Function):
    """LayerNorm of (R, ..., L) with weights (R, L), by the kernels of `kernels.gpu.norm`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        from fastcifar.kernels.gpu import norm

        ctx.save_for_backward(x, weight)
        ctx.eps, weight, bias = eps, weight.contiguous(), bias.contiguous()
        return norm.norm(x, weight, bias, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        from fastcifar.kernels.gpu import norm

        x, weight = ctx.saved_tensors
        return *norm.norm_gradients(x, weight.contiguous(), upstream.contiguous(), ctx.eps), None
