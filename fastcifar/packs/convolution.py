"""Two ways of convolving with several runs' weights at once; which is faster depends on the device and the sizes."""

from typing import TypeVar

from torch import Tensor, nn
from torch.nn.functional import linear, unfold

from fastcifar.errors import UsageError

WAYS = ("grouped", "im2col")
"""grouped: one convolution with a group for each run, which is what vmap makes of them; im2col: the pixels that each
output sees as a row, times all weights"""

Network = TypeVar("Network", bound=nn.Module)


def convolving(network: Network, way: str) -> Network:
    """The network with its convolutions done in a way of WAYS, in place. Raises UsageError for another."""
    if way not in WAYS:
        raise UsageError(f"way {way!r} of stacking runs does not exist; there are {', '.join(WAYS)}")
    if way == "im2col":
        for module in list(network.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Conv2d):
                    setattr(module, name, Im2Col(child))
    return network


class Im2Col(nn.Module):
    """A Conv2d, of its parameters' names, as one matrix product: (B * places, C * kernel) times the weights."""

    def __init__(self, like: nn.Conv2d) -> None:
        """Raises UsageError for a convolution in groups or of pixels that are not zero outside."""
        super().__init__()
        if like.groups != 1 or like.padding_mode != "zeros" or isinstance(like.padding, str):
            raise UsageError(f"{like} cannot run as a matrix product; choose the way grouped")
        self.weight, self.bias = like.weight, like.bias
        self.stride, self.padding, self.dilation = like.stride, like.padding, like.dilation

    def forward(self, x: Tensor) -> Tensor:
        size = tuple(self.weight.shape[2:])
        columns = unfold(x, size, self.dilation, self.padding, self.stride)
        # one product of the whole batch, such that runs make a batched product of large matrices
        out = linear(columns.mT.flatten(0, 1), self.weight.flatten(1), self.bias)
        height, width = (
            (x.shape[n + 2] + 2 * self.padding[n] - self.dilation[n] * (size[n] - 1) - 1) // self.stride[n] + 1
            for n in range(2)
        )
        return out.unflatten(0, (x.shape[0], height, width)).permute(0, 3, 1, 2)
