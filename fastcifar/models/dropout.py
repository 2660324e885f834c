"""Dropout as a pure function of (seed, epoch, sample id, layer, unit).

A sample loses the same units in any batch and on any device.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fastcifar.kernels.cpu.dice import fill_kept
from fastcifar.rng.cursor import read_cursor, standing_clock
from fastcifar.rng.philox import Stream


@dataclass(frozen=True)
class Noise:
    """The inputs of the dropout masks of a batch, on the device of the activations.

    clock: see `rng.cursor.clock_of`. ids: (B,) int64 sample ids.
    """

    clock: Tensor
    ids: Tensor

    @classmethod
    def of(cls, seed: int, epoch: int, ids: Tensor) -> "Noise":
        """Return the noise of a batch. seed: in [0, 2**64). epoch: >= 0. ids: (B,) int64 sample ids."""
        return cls(standing_clock(seed, epoch, ids.device), ids)

    @torch.compiler.disable(reason="compiled by numba or Triton already")
    def kept(self, p: float, layer: int, units: int) -> Tensor:
        """Return a dropout mask, (B, units) float32: 0 with probability p (to 2**-32), else 1 / (1 - p).

        p: in [0, 1). layer: in [0, 2**16).
        """
        threshold, factor, stream = numbers_of(p, layer)
        if self.ids.device.type == "cpu":
            seed, epoch = read_cursor(self.clock)
            kept = np.empty((len(self.ids), units), np.float32)
            fill_kept(threshold, factor, stream, np.uint64(seed), epoch, self.ids.numpy(), kept)
            return torch.from_numpy(kept)
        from fastcifar.kernels.gpu import dropout

        return dropout.kept(self.ids, self.clock, threshold, float(factor), stream, units)


def numbers_of(p: float, layer: int) -> tuple[int, np.float32, int]:
    """Return the numbers that decide a dropout mask: a unit whose word is below the first is dropped, the second is the
    factor of the others, and the third is the stream of the words. p, layer: as for `Noise.kept`.
    """
    return round(p * (1 << 32)), np.float32(1 / (1 - p)), int(Stream.DROPOUT + (layer << 16))


class Dropout(nn.Module):
    """A dropout layer. Where `forward` gets a noise, it zeroes units with probability p and scales the others by
    1 / (1 - p); without a noise it changes nothing.

    layer: the number of this layer, unique in its network. channels: drop whole channels of (B, C, ...), as torch's
    Dropout2d does.
    """

    def __init__(self, p: float, layer: int, channels: bool = False) -> None:
        super().__init__()
        self.p, self.layer, self.channels = p, layer, channels

    def forward(self, x: Tensor, noise: Noise | None) -> Tensor:
        if noise is None or self.p == 0:
            return x
        shape = x.shape[:2] + (1,) * (x.ndim - 2) if self.channels else x.shape
        return x * noise.kept(self.p, self.layer, shape[1:].numel()).view(shape).to(x.dtype)

    def extra_repr(self) -> str:
        return f"p={self.p}, layer={self.layer}, channels={self.channels}"
