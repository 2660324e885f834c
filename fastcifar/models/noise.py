"""Dropout as a pure function of (seed, epoch, sample id, layer, unit): whatever batch a sample is in, it loses the
same units.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fastcifar.kernels.cpu.dice import fill_kept
from fastcifar.philox import Stream, key_of, rounds


@dataclass(frozen=True)
class Noise:
    """Whose dropout is meant. ids: (B,) int64 sample ids, on the device of the activations."""

    seed: int
    epoch: int
    ids: Tensor

    def kept(self, p: float, layer: int, units: int) -> Tensor:
        """(B, units) float32: 0 with probability p (to 2**-32), else 1 / (1 - p). layer: in [0, 2**16)."""
        threshold, stream = round(p * (1 << 32)), Stream.DROPOUT + (layer << 16)
        factor = np.float32(1 / (1 - p))
        if self.ids.device.type == "cpu":
            kept = np.empty((len(self.ids), units), np.float32)
            fill_kept(threshold, factor, int(stream), np.uint64(self.seed), self.epoch, self.ids.numpy(), kept)
            return torch.from_numpy(kept)
        return self._kept_anywhere(threshold, float(factor), stream, units)

    def _kept_anywhere(self, threshold: int, factor: float, stream: int, units: int) -> Tensor:
        """The same in torch operations, for devices that numba does not compile for."""
        blocks = torch.arange(-(-units // 4), device=self.ids.device)
        ids, blocks = torch.broadcast_tensors(self.ids[:, None], blocks)
        constant = torch.full_like(ids, 1)
        words = rounds((ids, constant * self.epoch, constant * stream, blocks), key_of(self.seed))
        return (torch.stack(words, -1).flatten(1)[:, :units] >= threshold) * torch.tensor(factor, device=ids.device)


class Dropout(nn.Module):
    """Zeroes units with probability p and scales the rest by 1 / (1 - p), when there is noise.

    layer: this layer's number in its network, of its own. channels: drop whole channels, (B, C, ...), as Dropout2d.
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
