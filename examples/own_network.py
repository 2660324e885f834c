"""Your own network in fastcifar's commands: a factory that is called with the number of classes.

    fastcifar train --exp 2 --data data/cifar10 --model examples/own_network.py:tiny --set recipe=standard
    fastcifar grid --exp 2 --data data/cifar10 --model examples/own_network.py:tiny --set lr=1e-3,3e-3

The run-id has a hash of this file, so a changed network never continues the checkpoint of an earlier one.
"""

from torch import Tensor, nn


class Residual(nn.Module):
    """Two convolutions, whose result is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale = nn.GroupNorm(4, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(nn.functional.silu(self.first(self.scale(x))))


def tiny(classes: int) -> nn.Module:
    """Return a small residual network for images (B, 3, 32, 32) in [0, 1]."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        Residual(16),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        Residual(32),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, classes),
    )
