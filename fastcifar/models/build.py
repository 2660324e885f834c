"""The networks, as torch modules with ``forward(images, noise=None)``; dropout is active only with a noise."""

import torch
from torch import nn

from fastcifar.models.cnn import CNN
from fastcifar.models.initial import initialise
from fastcifar.models.mlp import MLP
from fastcifar.models.names import MLP_HIDDEN, MOST_IMAGES, NO_CODE, check_model, is_own
from fastcifar.models.own import build_own
from fastcifar.models.vit import AS_RUN, ViT

MOST_PRODUCTS = 65_535
"""The most matrix products in a batched product on CUDA. cuBLAS numbers them with the third dimension of the launch
grid, which has this limit (CUDA C++ Programming Guide, technical specifications per compute capability)."""


def build(name: str, classes: int, dropout: float, seed: int, code: str = NO_CODE, new_head: bool = False) -> nn.Module:
    """Return a network by name, with ``classes`` outputs and the initial weights of ``seed``, on the CPU in float32.

    dropout: probability in [0, 1). An MLP has dropout after its last hidden layer, the CNN on its channels, a ViT on
    its embedding. Another network has its own dropout and needs 0 here. code: the source of one's own network, by
    `own.code_of`. new_head: replace the last layer of one's own network, as that of a published one. Raises UsageError
    for an unknown name, or a dropout that the network does not support, and the errors of `own.build_own`.
    """
    check_model(name, dropout)
    if is_own(name):
        return build_own(name, classes, seed, code, new_head)
    model: nn.Module
    if name in MLP_HIDDEN:
        model = MLP(MLP_HIDDEN[name], classes, dropout)
    elif name == "cnn":
        model = CNN(classes, dropout)
    elif name == "vit":
        model = ViT(classes, dropout)
    elif name == "vit_as_run":
        model = ViT(classes, dropout, AS_RUN)
    else:
        from fastcifar.models import pretrained

        return pretrained.build_pretrained(name, classes, seed)
    return initialise(model, seed)


def images_at_once(model: nn.Module, device: torch.device, runs: int = 1) -> int:
    """Return the largest batch that a network, or a stack of ``runs`` networks, can take, apart from memory."""
    products = getattr(model, "products", 0) * runs if device.type == "cuda" else 0
    return max(1, MOST_PRODUCTS // products) if products else MOST_IMAGES


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable values."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
