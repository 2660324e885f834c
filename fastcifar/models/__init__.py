"""The networks, as plain modules: ``forward(images, noise=None)``, where noise switches dropout on."""

import torch
from torch import nn

from fastcifar.errors import UsageError
from fastcifar.models.cnn import CNN
from fastcifar.models.initial import initialise
from fastcifar.models.mlp import MLP
from fastcifar.models.vit import AS_RUN, ViT

MLP_HIDDEN = {"mlp_s": (1500, 500, 100), "mlp_l": (2048, 1024, 512, 256, 128, 64, 32, 16)}
MOST_IMAGES = 1 << 16  # the largest batch that a run may have
MOST_PRODUCTS = 65_535
"""of matrices in a batch on CUDA: cuBLAS counts them by the third dimension of a launch's grid, which goes no further
(CUDA C++ Programming Guide, technical specifications per compute capability)"""
MODELS = ("mlp_s", "mlp_l", "cnn", "vit", "vit_as_run")
"""those for 32 x 32 pixels; `pretrained` has others"""


def build(name: str, classes: int, dropout: float, seed: int) -> nn.Module:
    """A network by name, with ``classes`` outputs and the initial weights of ``seed``, on the CPU in float32.

    dropout: probability in [0, 1), after an MLP's last hidden layer, of the CNN's channels, on a ViT's embedding.
    A pretrained one has dropout of its own. Raises UsageError for an unknown name or a dropout out of range.
    """
    check(name, dropout)
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

        return pretrained.build(name, classes, seed)
    return initialise(model, seed)


def check(name: str, dropout: float) -> None:
    """Raise UsageError for a model that does not exist, or a dropout that it cannot have."""
    if not 0 <= dropout < 1:
        raise UsageError(f"dropout {dropout} is outside [0, 1)")
    if name in MODELS:
        return
    from fastcifar.models import pretrained  # torchvision's models take a second to import

    if not pretrained.is_pretrained(name):
        raise UsageError(
            f"model {name!r} does not exist; there are {', '.join(MODELS)}, torchvision's classification networks "
            f"such as {', '.join(pretrained.FEATURED)}, and {pretrained.TIMM}NAME"
        )
    if dropout:
        raise UsageError(f"dropout {dropout}: {name} has dropout of its own; leave it at 0")


def images_at_once(model: nn.Module, device: torch.device, runs: int = 1) -> int:
    """How many images a network, or a stack of ``runs``, takes at once at the most, whatever the memory."""
    products = getattr(model, "products", 0) * runs if device.type == "cuda" else 0
    return max(1, MOST_PRODUCTS // products) if products else MOST_IMAGES


def count_parameters(model: nn.Module) -> int:
    """The number of trained values."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
