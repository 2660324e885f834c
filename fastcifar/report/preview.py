"""Draw sample images under a recipe, as the network sees them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastcifar.augment import Augment, draw
from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError

GAP, BACKGROUND = 2, 255  # pixels between images; white
SMALLEST_SIDE = 96  # pixels: smaller images are enlarged by a whole factor


def preview(dataset: Dataset, augment: Augment, path: Path, rows: int = 8, columns: int = 8, seed: int = 0) -> None:
    """Write `sheet` as a PNG file. Raises UsageError as `sheet` does, and for a name that does not end with .png."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: a preview is a PNG file; call it {path.name}.png, for example")
    drawn = sheet(dataset, augment, rows, columns, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.save(path)


def sheet(dataset: Dataset, augment: Augment, rows: int = 8, columns: int = 8, seed: int = 0) -> Image.Image:
    """Draw a sheet of images: each row is one training image, first unchanged, then in ``columns`` augmented versions.

    The versions use the random draws of epochs 1, 2, ... of ``seed``. Normalisation is undone, so erased rectangles
    show the mean colour. Raises UsageError for ``rows`` outside [1, number of images] or ``columns`` outside [1, 64].
    """
    ids = dataset.ids("training")
    if not 1 <= rows <= len(ids) or not 1 <= columns <= 64:
        raise UsageError(f"{rows} rows of {columns} draws: rows go from 1 to {len(ids)}, draws from 1 to 64")
    ids = ids[np.linspace(0, len(ids) - 1, rows).astype(np.int64)]
    images = np.array(dataset.images("train")[ids])
    grid = [_cells(images, augment.still(), seed, 0, ids)]
    grid += [_cells(images, augment, seed, epoch, ids) for epoch in range(1, columns + 1)]
    side, scale = augment.out_size, max(1, -(-SMALLEST_SIDE // augment.out_size))
    pitch = side * scale + GAP
    pixels = np.full((rows * pitch + GAP, (columns + 1) * pitch + GAP, 3), BACKGROUND, np.uint8)
    for column, cells in enumerate(grid):
        for row in range(rows):
            cell = cells[row].repeat(scale, axis=0).repeat(scale, axis=1)
            top, left = GAP + row * pitch, GAP + column * pitch
            pixels[top : top + side * scale, left : left + side * scale] = cell
    return Image.fromarray(pixels)


def _cells(images: NDArray[np.uint8], augment: Augment, seed: int, epoch: int, ids: NDArray[np.int64]) -> NDArray:
    """Return the augmented images, (N, S, S, 3) uint8."""
    import torch  # takes a second, and a wrong option is refused before

    from fastcifar.kernels import reference

    pixels = reference.apply(torch.from_numpy(images), draw(augment, seed, epoch, ids), augment)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (augment.mean, augment.std))
    return (pixels * std + mean).mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
