"""Linear layers under vmap, as a product of matrices and a sum."""

from typing import TypeVar

from torch import Tensor, nn
from torch.nn.functional import linear

Network = TypeVar("Network", bound=nn.Module)


def multiplying(network: Network) -> Network:
    """Change the network in place so that its Linear layers are instances of `Product`, and return it."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, Product(child))
    return network


class Product(nn.Module):
    """A Linear layer whose parameters keep their names. Its result is that of `product`."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, like: "nn.Linear | Product") -> None:
        """Take over the parameters of ``like``."""
        super().__init__()
        self.weight, self.bias = like.weight, like.bias

    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.weight, self.bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return what F.linear returns.

    Of F.linear with a bias, vmap makes a product, a sum, and two passes over the result that multiply it by 1.
    """
    out = linear(x, weight)
    return out if bias is None else out + bias.to(out.dtype)
