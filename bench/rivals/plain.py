"""Contestants as a newcomer writes them: a numba loop over pixels, and a PyTorch training loop over PNG files."""

import math
from pathlib import Path

import numba
import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from bench.rivals.networks import NETWORKS
from fastcifar.augment import Augment, Draws
from fastcifar.data.dataset import Dataset
from fastcifar.system.devices import torch_defaults


@numba.njit
def _clip(value):
    return min(max(value, np.float32(0)), np.float32(1))


@numba.njit
def _grey(pixel):
    return np.float32(0.2989) * pixel[0] + np.float32(0.587) * pixel[1] + np.float32(0.114) * pixel[2]


@numba.njit
def _turn_hue(pixel, turn):
    high, low = max(pixel[0], pixel[1], pixel[2]), min(pixel[0], pixel[1], pixel[2])
    chroma = high - low
    if chroma == 0:
        return
    if pixel[0] == high:
        hue = (pixel[1] - pixel[2]) / chroma
    elif pixel[1] == high:
        hue = 2 + (pixel[2] - pixel[0]) / chroma
    else:
        hue = 4 + (pixel[0] - pixel[1]) / chroma
    hue = hue / 6 + turn
    for channel, offset in enumerate((5, 3, 1)):
        k = (offset + 6 * hue) % 6
        pixel[channel] = high - chroma * max(0, min(k, 4 - k, 1))


@numba.njit(parallel=True, cache=True)
def numba_pixels(images, flip, order, factors, degrees, rectangles, out):
    """Augment pixel by pixel, each image in turn: flip, the four colour parts in their order, rotation, erasing.

    images (B, 32, 32, 3) uint8; flip (B,) bool; order (B, 4); factors (B, 4) float32; degrees (B,); rectangles (B, 4):
    top, left, height, width in pixels; out (B, 32, 32, 3) float32.
    """
    for i in numba.prange(images.shape[0]):
        jittered = np.empty((32, 32, 3), np.float32)
        for y in range(32):
            for x in range(32):
                for c in range(3):
                    jittered[y, x, c] = images[i, y, 31 - x if flip[i] else x, c] / np.float32(255)
        for step in range(4):
            part, factor = order[i, step], factors[i, order[i, step]]
            mean = np.float32(0)
            if part == 1:
                for y in range(32):
                    for x in range(32):
                        mean += _grey(jittered[y, x]) / np.float32(1024)
            for y in range(32):
                for x in range(32):
                    pixel = jittered[y, x]
                    if part == 3:
                        _turn_hue(pixel, factor)
                        continue
                    other = mean if part == 1 else _grey(pixel) if part == 2 else np.float32(0)
                    for c in range(3):
                        pixel[c] = _clip(factor * pixel[c] + (1 - factor) * other)
        cos, sin = math.cos(math.radians(degrees[i])), math.sin(math.radians(degrees[i]))
        top, left, height, width = rectangles[i]
        for y in range(32):
            for x in range(32):
                column = math.floor(cos * (x - 15.5) - sin * (y - 15.5) + 16)
                row = math.floor(sin * (x - 15.5) + cos * (y - 15.5) + 16)
                erased = top <= y < top + height and left <= x < left + width
                inside = 0 <= column < 32 and 0 <= row < 32
                for c in range(3):
                    out[i, y, x, c] = jittered[row, column, c] if inside and not erased else 0


def apply_numba_pixels(images_BHWC: NDArray[np.uint8], draws: Draws, out_BHWC: NDArray[np.float32]) -> None:
    """Run `numba_pixels` with our draws."""
    factors = np.stack([draws.brightness, draws.contrast, draws.saturation, draws.hue], axis=1)
    rectangles = np.stack([draws.erase_top, draws.erase_left, draws.erase_height, draws.erase_width], axis=1)
    numba_pixels(images_BHWC, draws.flip, draws.order, factors, draws.degrees, rectangles, out_BHWC)


def write_pngs(dataset: Dataset, folder: Path, count: int) -> None:
    """Write the first ``count`` training images as ``<folder>/<class>/<row>.png``."""
    labels = dataset.labels("train")
    assert labels is not None  # the train part always has labels
    for row in dataset.ids("training")[:count]:
        into = folder / dataset.classes[labels[row]]
        into.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(dataset.images("train")[row])).save(into / f"{row}.png", compress_level=1)


class PlainLoop:
    """A plain training loop: ImageFolder, torchvision's transforms on float tensors, DataLoader, float32, no tuning."""

    def __init__(
        self,
        folder: Path,
        spec: Augment,
        workers: int,
        batch_size: int = 128,
        device: torch.device | str = "cpu",
        network: tuple[str, float] = ("cnn", 0.0),
    ) -> None:
        """Create the training loop. folder: PNG files, as `write_pngs` writes them. network: a name of
        `bench.rivals.networks.NETWORKS`, and the weight decay. spec: a recipe without erasing; this loop would leave
        erasing out.
        """
        transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), *_transforms(spec)])
        images = torchvision.datasets.ImageFolder(str(folder), transform)
        self.loader = torch.utils.data.DataLoader(
            images, batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )
        name, l2 = network
        self.model = NETWORKS[name](len(images.classes)).to(device)
        self.device = device
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, weight_decay=l2)
        self.loss = nn.CrossEntropyLoss()

    @torch_defaults()
    def epoch(self) -> None:
        """Train on every image once."""
        self.model.train()
        for images, labels in self.loader:
            self.optimizer.zero_grad()
            self.loss(self.model(images.to(self.device)), labels.to(self.device)).backward()
            self.optimizer.step()


def _transforms(spec: Augment) -> list[nn.Module]:
    """Return the transforms that a recipe needs."""
    jitter = spec.brightness, spec.contrast, spec.saturation, spec.hue
    return [
        *([v2.RandomHorizontalFlip(spec.flip)] if spec.flip else []),
        *([v2.ColorJitter(*jitter)] if any(jitter) else []),
        *([v2.RandomRotation(spec.rotate)] if spec.rotate else []),
    ]
