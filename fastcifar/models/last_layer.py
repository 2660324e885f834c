"""The layer of a published network that computes the classes: where it is, and how many inputs it has."""

from typing import Any

from torch import nn

from fastcifar.errors import UsageError

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # the kinds of layers that may compute the classes
POINTWISE = ((1, 1), (1, 1), (0, 0), 1)  # kernel, stride, padding and groups of a 1 x 1 convolution


def last_layer(network: nn.Module) -> tuple[str, int]:
    """Return the name of the layer that computes the classes, and the number of its inputs.

    timm's networks name it; of another network it is the last linear or convolutional layer. Some of timm's networks
    have been published without it, with an Identity in its place. Raises UsageError for a layer of another kind, and
    for several layers, which `Pretrained` cannot replace.
    """
    named = (getattr(network, "default_cfg", None) or {}).get("classifier")
    modules = dict(network.named_modules())
    layers = [name for name, layer in modules.items() if isinstance(layer, LAYERS)]
    name = named if isinstance(named, str) else layers[-1] if layers else ""
    last = modules.get(name)
    if isinstance(named, tuple | list):
        ends = f"has {len(named)} last layers, {' and '.join(named)},"
    elif isinstance(last, nn.Linear):
        return name, last.in_features
    elif isinstance(last, nn.Conv2d) and (last.kernel_size, last.stride, last.padding, last.groups) == POINTWISE:
        return name, last.in_channels
    elif isinstance(last, nn.Identity):
        inputs: Any = network.num_features
        return name, int(inputs)
    elif name:
        ends = f"has no layer {name}," if last is None else f"ends in {name}, {last},"
    else:
        ends = "has no linear or convolutional layer,"
    raise UsageError(
        f"{type(network).__name__} {ends} and fastcifar can replace one linear layer or one 1 x 1 convolution only; "
        "choose another network"
    )
