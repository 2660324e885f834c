"""Experiment 2's convolutional network."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from fastcifar.models.dropout import Dropout, Noise


class CNN(nn.Module):
    """A CNN: (B, 3, 32, 32) -> (B, classes).

    It has three 3x3 convolutions of stride 2 (32, 64, 128 channels), a 2x2 max-pool, channel dropout, and three linear
    layers 512-512-40-classes. ReLU follows every convolution and every linear layer but the last.
    """

    def __init__(self, classes: int, dropout: float) -> None:
        super().__init__()
        channels = (3, 32, 64, 128)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, kernel_size=3, stride=2, padding=1) for a, b in pairwise(channels)
        )
        self.dropout = Dropout(dropout, layer=0, channels=True)
        self.linear1, self.linear2 = nn.Linear(512, 512), nn.Linear(512, 40)
        self.head = nn.Linear(40, classes)

    def forward(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        x = images
        for convolution in self.convolutions:
            x = self._activated(convolution, x)
        x = self.dropout(max_pool2d(x, 2), noise).flatten(1)
        return self.head(self.linear2(self.linear1(x).relu()).relu())

    def _activated(self, convolution: nn.Module, x: Tensor) -> Tensor:
        return convolution(x).relu()
