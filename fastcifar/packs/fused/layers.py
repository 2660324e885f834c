"""The way "fused": kernels of our own take the place of a network's layers."""

from functools import partial
from typing import TypeVar

from torch import nn

from fastcifar.models.cnn import CNN
from fastcifar.models.vit import EncoderLayer
from fastcifar.packs.fused.attention import attend, attend_padded
from fastcifar.packs.fused.convolution import activated
from fastcifar.packs.fused.norm import ShortNorm

Network = TypeVar("Network", bound=nn.Module)


def fusing(network: Network, on_gpu: bool) -> Network:
    """Change the network in place so that it uses fused kernels under vmap, and return it.

    on_gpu: attention, LayerNorm and the CNN's convolutions are Triton kernels. Otherwise attention is torch's, and the
    other layers stay as they are.
    """
    if on_gpu and isinstance(network, CNN):
        network._activated = activated  # type: ignore[method-assign]
    for module in list(network.modules()):
        if isinstance(module, EncoderLayer) and not module.drop_weights.p:
            module._attend = partial(attend if on_gpu else attend_padded, module)  # type: ignore[method-assign]
        for name, child in list(module.named_children()):
            if on_gpu and isinstance(child, nn.LayerNorm):
                setattr(module, name, ShortNorm(child))
    return network
