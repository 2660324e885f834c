"""Finished runs to predict with, and a network that looks at the halves of an image."""

import torch
from torch import nn

from fastcifar.runs.trained import TrainedRun


def opened(*paths):
    return [TrainedRun.open(path) for path in paths]


class Sides(nn.Module):
    """A network whose logits are the mean red of the left half, that of the right half, and zeros."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 10)

    def forward(self, images):
        red = images[:, 0].float()
        sides = torch.stack([red[:, :, :16].mean((1, 2)), red[:, :, 16:].mean((1, 2))], 1)
        return torch.cat([sides, torch.zeros(len(images), 8)], 1)
