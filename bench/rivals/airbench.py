"""The loader of https://github.com/KellerJordan/cifar10-airbench in our words: tensor operations on whole epochs, on
any device.

    fastcifar bench --recipes airbench94 --loader bench/rivals/airbench.py:airbench94
    fastcifar bench --recipes airbench96 --loader bench/rivals/airbench.py:airbench96 --append

Before the first epoch it normalises all images, flips half of them, and pads them. In each epoch it shifts all images,
flips all of them if the number of the epoch is odd, blackens a square in each, and shuffles. A batch is one indexing
operation. Random numbers come from torch's global generator. Its square never crosses the border.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fastcifar.data.dataset import Dataset
from fastcifar.recipes import CIFAR10_MEAN, CIFAR10_STD


class AirbenchLoader:
    """An iterable over the epochs of a dataset's training split: (images, labels) on a device.

    translate: the padding in pixels. cutout: the side of the square in pixels, or 0.
    """

    def __init__(
        self, data: str, batch_size: int, device: str, dtype: torch.dtype, translate: int, cutout: int = 0
    ) -> None:
        dataset = Dataset.open(data)
        ids = dataset.ids("training")
        labels = dataset.labels("train")
        assert labels is not None  # the train part always has labels
        self.labels = torch.from_numpy(labels[ids].astype("int64")).to(device)
        images = torch.from_numpy(dataset.images("train")[ids]).to(device).permute(0, 3, 1, 2)
        mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (CIFAR10_MEAN, CIFAR10_STD))
        normal = ((images.float() / 255 - mean) / std).to(dtype, memory_format=torch.channels_last)
        flipped = torch.rand(len(normal), device=device) < 0.5
        normal = torch.where(flipped.view(-1, 1, 1, 1), normal.flip(3), normal)
        self.padded = F.pad(normal, (translate,) * 4, "reflect")
        self.batch_size, self.translate, self.cutout, self.epoch = batch_size, translate, cutout, 0

    def __len__(self) -> int:
        return len(self.labels) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images = shifted(self.padded, self.translate)
        if self.epoch % 2:
            images = images.flip(3)
        if self.cutout:
            images.masked_fill_(squares(images, self.cutout), 0)
        self.epoch += 1
        order = torch.randperm(len(images), device=images.device)
        for n in range(len(self)):
            rows = order[n * self.batch_size : (n + 1) * self.batch_size]
            yield images[rows], self.labels[rows]


def shifted(padded: Tensor, reach: int) -> Tensor:
    """Cut (N, C, S, S) out of (N, C, S + 2 reach, S + 2 reach), each at a random place.

    The images of one place are cut together: for a small reach in both directions at once, else one after the other.
    """
    side, device = padded.shape[3] - 2 * reach, padded.device
    tops, lefts = torch.randint(0, 2 * reach + 1, (2, len(padded)), device=device)
    out = torch.empty_like(padded[:, :, :side, :side], memory_format=torch.channels_last)
    places = range(2 * reach + 1)
    if reach <= 2:
        for top in places:
            for left in places:
                here = (tops == top) & (lefts == left)
                out[here] = padded[here, :, top : top + side, left : left + side]
        return out
    rows = torch.empty_like(padded[:, :, :side], memory_format=torch.channels_last)
    for top in places:
        here = tops == top
        rows[here] = padded[here, :, top : top + side]
    for left in places:
        here = lefts == left
        out[here] = rows[here, :, :, left : left + side]
    return out


def squares(images: Tensor, side: int) -> Tensor:
    """Return (N, 1, S, S) bool: a random square of each image, wholly inside."""
    line = torch.arange(images.shape[3], device=images.device)
    corners = torch.randint(0, len(line) - side + 1, (2, len(images), 1), device=images.device)
    rows, columns = ((line >= corner) & (line < corner + side) for corner in corners)
    return (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)


def airbench94(data: str, batch_size: int, device: str) -> AirbenchLoader:
    """Return the loader of airbench94: images shifted by up to 2 pixels, for `fastcifar bench --loader`."""
    return AirbenchLoader(data, batch_size, device, _dtype(device), 2)


def airbench96(data: str, batch_size: int, device: str) -> AirbenchLoader:
    """Return the loader of airbench96: images shifted by up to 4 pixels, a square of 12 pixels cut out."""
    return AirbenchLoader(data, batch_size, device, _dtype(device), 4, 12)


def _dtype(device: str) -> torch.dtype:
    """Return the dtype of airbench's images on CUDA, float16; float32 on the CPU, where float16 is slow."""
    return torch.float16 if device.startswith("cuda") else torch.float32
