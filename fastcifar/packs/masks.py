"""Dropout under vmap: the dropout masks of all runs are made before the forward pass, which looks them up by layer.

Shape suffixes: R runs, G groups of runs that see the same batches, B batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastcifar.augment import IMAGE_SIZE
from fastcifar.models.dropout import Noise, numbers_of


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


class MaskMaker:
    """Makes the dropout masks of a step of all runs, in one launch or one by one, with the same bits."""

    def __init__(
        self,
        probabilities: Mapping[int, Sequence[float]],
        units: Mapping[int, int],
        which: Sequence[int],
        device: torch.device,
        together: bool,
    ) -> None:
        """probabilities: each run's dropout probability, by layer. units: by layer. which: each run's group.

        together: make all masks in one launch, by the kernel for GPUs.
        """
        self._probabilities, self._units, self._which = probabilities, units, which
        self._drops = None
        if together and probabilities:
            from fastcifar.kernels.gpu import dropout

            self._kernel = dropout
            by_run = [
                [numbers_of(p, layer) for layer, p in zip(probabilities, run, strict=True)]
                for run in zip(*probabilities.values(), strict=True)
            ]
            self._drops = dropout.drops(
                which,
                [[threshold for threshold, _, _ in run] for run in by_run],
                [[float(factor) for _, factor, _ in run] for run in by_run],
                [stream for _, _, stream in by_run[0]],
                [units[layer] for layer in probabilities],
                device,
            )

    def masks(self, clock_G3: Tensor, ids_GB: Tensor) -> dict[int, Tensor]:
        """Return the masks by layer, (R, B, units) float32. A run without dropout has ones."""
        if self._drops is not None:
            made = self._kernel.all_kept(ids_GB, clock_G3, self._drops)
            return dict(zip(self._probabilities, made, strict=True))
        noises = [Noise(*of) for of in zip(clock_G3, ids_GB, strict=True)]
        masks = {}
        for layer, of_layer in self._probabilities.items():
            known: dict[tuple[int, float], Tensor] = {}
            for key in zip(self._which, of_layer, strict=True):
                if key not in known:
                    known[key] = noises[key[0]].kept(key[1], layer, self._units[layer])
            masks[layer] = torch.stack([known[key] for key in zip(self._which, of_layer, strict=True)])
        return masks
