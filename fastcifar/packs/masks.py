"""Dropout under vmap: masks of all runs are made before the forward pass and looked up by layer in it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastcifar.augment import IMAGE_SIZE


@dataclass(frozen=True)
class Masks:
    """What a network takes as its `Noise`: masks (B, units) by layer, that of one run under vmap."""

    by_layer: dict[int, Tensor]

    def kept(self, p: float, layer: int, units: int) -> Tensor:
        """The layer's mask, whatever p: it was made with the run's own."""
        return self.by_layer[layer]


class _Asked:
    """Notes how many units each layer drops from."""

    def __init__(self) -> None:
        self.units: dict[int, int] = {}

    def kept(self, p: float, layer: int, units: int) -> Tensor:
        self.units[layer] = units
        return torch.ones((1, units), device="meta")


def units_of(network: nn.Module) -> dict[int, int]:
    """Units of each layer that drops any, found by asking for the logits of one image; network: on the meta device."""
    asked = _Asked()
    with torch.no_grad():
        network(torch.empty((1, 3, IMAGE_SIZE, IMAGE_SIZE), device="meta"), asked)
    return asked.units
