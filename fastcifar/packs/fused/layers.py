"""The way "fused": kernels of our own take the place of a network's layers."""

from functools import partial
from typing import TypeVar

from torch import nn

from fastcifar.models.cnn import CNN
from fastcifar.models.vit import EncoderLayer, ViT
from fastcifar.packs.fused.attention import attend, attend_padded
from fastcifar.packs.fused.convolution import activated
from fastcifar.packs.fused.linear import SmallLinear, is_small
from fastcifar.packs.fused.norm import ShortNorm
from fastcifar.packs.linear import Product

Network = TypeVar("Network", bound=nn.Module)


def fusing(network: Network, on_gpu: bool) -> Network:
    """Change the network in place so that it uses fused kernels under vmap, and return it.

    network: its Linear layers are instances of Product. on_gpu: attention, LayerNorm, small linear layers and the CNN's
    convolutions are Triton kernels. Otherwise attention is torch's, and the other layers stay as they are.
    """
    if on_gpu and isinstance(network, CNN):
        network._activated = activated  # type: ignore[method-assign]
    for module in list(network.modules()):
        if isinstance(module, EncoderLayer) and not module.drop_weights.p:
            module._attend = partial(attend if on_gpu else attend_padded, module)  # type: ignore[method-assign]
        for name, child in list(module.named_children()) if on_gpu else []:
            if isinstance(child, nn.LayerNorm):
                setattr(module, name, ShortNorm(child))
            elif isinstance(module, ViT | EncoderLayer) and isinstance(child, Product) and is_small(child):
                setattr(module, name, SmallLinear(child))
    return network
