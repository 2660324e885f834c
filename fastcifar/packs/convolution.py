"""Two ways to convolve with several runs' weights at once. Device and sizes decide which is faster."""

from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from fastcifar.errors import UsageError
from fastcifar.packs.linear import product
from fastcifar.packs.names import STACKED

MULTIPLE = 8
"""The values of a row of a matrix are a multiple of this number, which is 16 bytes in a 16-bit dtype: on an H100, a
product of rows of 27 values took 2 and its gradient 12 times as long as with rows of 32."""
Network = TypeVar("Network", bound=nn.Module)


def convolving(network: Network, way: str) -> Network:
    """Change the network in place so that its convolutions run in a way of STACKED, and return it.

    Raises UsageError for another way.
    """
    if way not in STACKED:
        raise UsageError(f"way {way!r} of stacking runs does not exist; there are {', '.join(STACKED)}")
    if way == "im2col":
        for module in list(network.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Conv2d):
                    setattr(module, name, Im2Col(child))
    return network


class Im2Col(nn.Module):
    """A Conv2d as one matrix product: (B * places, kernel * C) times the weights. Parameters keep their names."""

    def __init__(self, like: nn.Conv2d) -> None:
        """Take over the parameters of ``like``.

        Raises UsageError for a grouped convolution, for padding given as a string and for padding that is not zeros.
        """
        super().__init__()
        if like.groups != 1 or like.padding_mode != "zeros" or isinstance(like.padding, str):
            raise UsageError(f"{like} cannot run as a matrix product; choose the way grouped")
        self.weight, self.bias = like.weight, like.bias
        height, width = (
            Side(like.kernel_size[n], like.stride[n], int(like.padding[n]), like.dilation[n]) for n in range(2)
        )
        self._window = Window(height, width)

    def forward(self, x: Tensor) -> Tensor:
        columns_BHWV = Columns.apply(x, self._window)
        batch, height, width, values = columns_BHWV.shape
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        if values > weight.shape[1]:
            weight = pad(weight, (0, values - weight.shape[1]))
        # one product over the whole batch, so that vmap makes a batched product of large matrices
        out = product(columns_BHWV.flatten(0, 2), weight, self.bias)
        return out.unflatten(0, (batch, height, width)).permute(0, 3, 1, 2)


class Side(NamedTuple):
    """The parameters of an nn.Conv2d along one side of the image, in pixels."""

    kernel: int
    stride: int
    padding: int
    dilation: int

    def places(self, length: int) -> int:
        """Return the number of outputs along a side of ``length`` pixels, by the formula of nn.Conv2d."""
        return (length + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    def seen(self, k: int, places: int) -> slice:
        """Return the slice of the padded side's pixels that the kernel's k-th weight multiplies."""
        first = k * self.dilation
        return slice(first, first + (places - 1) * self.stride + 1, self.stride)


class Window(NamedTuple):
    """The receptive field of a convolution's outputs."""

    height: Side
    width: Side

    def views(self, padded_BHWC: Tensor, height: int, width: int) -> list[Tensor]:
        """Return, for each weight of the kernel in row-major order, the pixels that it multiplies, as views.

        height, width: number of outputs. Each view is (B, height, width, C).
        """
        return [
            padded_BHWC[:, self.height.seen(i, height), self.width.seen(j, width)]
            for i in range(self.height.kernel)
            for j in range(self.width.kernel)
        ]


class Columns(torch.autograd.Function):
    """The receptive fields of all outputs: (B, C, H, W) becomes (B, OH, OW, V), the K * C values that a kernel of K
    weights multiplies, and zeros up to a multiple of MULTIPLE.

    On CUDA, torch's own unfold launches a kernel for each sample. Here one launch copies the pixels from views. The
    backward pass takes K sums, however many samples and runs there are.
    """

    @staticmethod
    def forward(x: Tensor, window: Window) -> Tensor:
        height, width = (side.places(n) for side, n in zip(window, x.shape[2:], strict=True))
        if min(height, width) < 1:
            raise ValueError(f"a kernel of {window} is larger than images of {tuple(x.shape[2:])} pixels with padding")
        across, down = window.width.padding, window.height.padding
        padded_BHWC = pad(x.permute(0, 2, 3, 1), (0, 0, across, across, down, down))
        views = window.views(padded_BHWC, height, width)
        missing = -(len(views) * x.shape[1]) % MULTIPLE
        if missing:
            views.append(x.new_zeros(1).expand(len(x), height, width, missing))
        return torch.cat(views, 3)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Window], output: Tensor) -> None:
        x, ctx.window = inputs
        ctx.shape = x.shape

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BHWV: Tensor) -> tuple[Tensor, None]:
        window, (batch, channels, height, width) = ctx.window, ctx.shape
        used = gradient_BHWV[..., : window.height.kernel * window.width.kernel * channels]
        gradient_BHWKC = used.unflatten(3, (-1, channels))
        down, across = window.height.padding, window.width.padding
        shape = batch, height + 2 * down, width + 2 * across, channels
        padded_BHWC = gradient_BHWKC.new_zeros(shape, dtype=torch.promote_types(gradient_BHWKC.dtype, torch.float32))
        places = window.views(padded_BHWC, *gradient_BHWKC.shape[1:3])
        for place, share in zip(places, gradient_BHWKC.unbind(3), strict=True):
            place += share
        inside_BHWC = padded_BHWC[:, down : down + height, across : across + width]
        return inside_BHWC.permute(0, 3, 1, 2).to(gradient_BHWKC.dtype), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, None], x: Tensor, window: Window) -> tuple[Tensor, int]:
        """Merge the run dimension into the batch dimension: all runs' images are one batch."""
        assert in_dims[0] is not None  # vmap calls this only if some tensor is mapped, and x is the only tensor
        x_RBCHW = x.movedim(in_dims[0], 0)
        made = Columns.apply(x_RBCHW.flatten(0, 1), window)
        return made.unflatten(0, x_RBCHW.shape[:2]), 0
