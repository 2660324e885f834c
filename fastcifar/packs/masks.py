"""Dropout under vmap: the dropout masks of all runs are made before the forward pass, which looks them up by layer."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastcifar.augment import IMAGE_SIZE


@dataclass(frozen=True)
class Masks:
    """A stand-in for a network's `Noise`: dropout masks by layer, each (B, units), of one run under vmap."""

    by_layer: dict[int, Tensor]

    def kept(self, p: float, layer: int, units: int) -> Tensor:
        """Return the layer's mask. p and units are ignored, as the mask was made with the run's own probability."""
        return self.by_layer[layer]


class _UnitRecorder:
    """A stand-in for `Noise` that records the number of units of each dropout layer."""

    def __init__(self) -> None:
        self.units: dict[int, int] = {}

    def kept(self, p: float, layer: int, units: int) -> Tensor:
        self.units[layer] = units
        return torch.ones((1, units), device="meta")


def units_of(network: nn.Module) -> dict[int, int]:
    """Return the number of units of each active dropout layer, from a forward pass of one image.

    network: on the meta device.
    """
    recorder = _UnitRecorder()
    with torch.no_grad():
        network(torch.empty((1, 3, IMAGE_SIZE, IMAGE_SIZE), device="meta"), recorder)
    return recorder.units
