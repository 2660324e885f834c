"""`reference.apply` with the random draws as tensors on the device, for torch.compile: a fast version without a kernel.

The colour functions are the reference's own. Parts that read numpy arrays there read tensors here. Shape suffixes: B
batch, C channel, H W pixels, P pixels of an image.
"""

from typing import NamedTuple

import numpy as np
import torch
from fastcifar.kernels import reference
from torch import Tensor

from fastcifar.augment import IMAGE_SIZE, REFLECTED, Augment, Draws

COLOURS = (reference._brightness, reference._contrast, reference._saturation, reference._hue)  # by their numbers


class Given(NamedTuple):
    """The random draws of B samples, and a spec's constants as arrays; all on one device."""

    flip: Tensor  # (B, 1, 1, 1) bool
    order: Tensor  # (4, B, 1, 1, 1) uint8: the colour part of each step
    factors: Tensor  # (4, B, 1, 1, 1) float32: the factor of each colour part
    turn: Tensor  # (2, B, 1, 1) int64: cosine and sine, 24 fractional bits
    rectangle: Tensor  # (4, B, 1, 1, 1) int32: top, left, height, width
    corners: Tensor  # (4, B, 1, 1, 1) int32: top and left of the crop and of the cutout
    normal: Tensor  # (2, 1, 3, 1, 1) float32: mean and 1 / std
    first: Tensor  # (S,) int64 and
    weight: Tensor  # (S,) float32: `reference.resize_taps`; empty without an enlargement


def given(draws: Draws, spec: Augment, device: torch.device) -> Given:
    """Copy the draws and a spec's constants to a device."""
    first, weight = reference.resize_taps(*spec.size) if spec.size else (np.zeros(0, np.int64), np.zeros(0, np.float32))
    rectangle = (draws.erase_top, draws.erase_left, draws.erase_height, draws.erase_width)
    arrays = (
        draws.flip.reshape(-1, 1, 1, 1),
        draws.order.T.reshape(4, -1, 1, 1, 1),
        np.stack([draws.brightness, draws.contrast, draws.saturation, draws.hue]).reshape(4, -1, 1, 1, 1),
        np.stack([draws.cos, draws.sin]).astype(np.int64).reshape(2, -1, 1, 1),
        np.stack(rectangle).reshape(4, -1, 1, 1, 1),
        np.stack([draws.crop_top, draws.crop_left, draws.cut_top, draws.cut_left]).reshape(4, -1, 1, 1, 1),
        np.stack(reference.normalisation(spec)).reshape(2, 1, 3, 1, 1),
        first,
        weight,
    )
    return Given(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))


def apply(images_BHWC: Tensor, known: Given, spec: Augment, out_dtype: torch.dtype) -> Tensor:
    """Return augmented images as the reference makes them, (B, 3, S, S) channels_last, up to float32 rounding.

    images_BHWC: (B, 32, 32, 3) uint8.
    """
    x_BCHW = images_BHWC.permute(0, 3, 1, 2).float() * (1 / 255)
    if spec.crop:
        x_BCHW = _crop(x_BCHW, *known.corners[:2].long(), reflects=spec.crop_fill == REFLECTED)
    x_BCHW = torch.where(known.flip, x_BCHW.flip(3), x_BCHW)
    if spec.jitters:
        x_BCHW = _jitter(x_BCHW, known)
    if spec.rotate:
        x_BCHW = _rotate(x_BCHW, *known.turn)
    x_BCHW = (x_BCHW - known.normal[0]) * known.normal[1]
    if spec.size:
        x_BCHW = _enlarge(x_BCHW, known.first, known.weight)
    if spec.erase:
        x_BCHW = _erase(x_BCHW, *known.rectangle)
    if spec.cutout:
        x_BCHW = _erase(x_BCHW, *known.corners[2:], spec.cutout, spec.cutout)
    return x_BCHW.to(out_dtype, memory_format=torch.channels_last)


def _crop(x_BCHW: Tensor, top: Tensor, left: Tensor, reflects: bool) -> Tensor:
    last = IMAGE_SIZE - 1
    line = torch.arange(IMAGE_SIZE, device=x_BCHW.device)
    rows, columns = top + line.view(1, 1, -1, 1), left + line.view(1, 1, 1, -1)
    inside = (rows >= 0) & (rows <= last) & (columns >= 0) & (columns <= last)
    rows, columns = (last - (last - at.abs()).abs() for at in (rows, columns))
    index_B1P = (rows * IMAGE_SIZE + columns).flatten(2)
    moved_BCHW = x_BCHW.flatten(2).gather(2, index_B1P.expand(-1, 3, -1)).view(x_BCHW.shape)
    return moved_BCHW if reflects else moved_BCHW.where(inside, 0.0)


def _jitter(x_BCHW: Tensor, known: Given) -> Tensor:
    for part_of_step in known.order:
        now = x_BCHW
        for part, colour in enumerate(COLOURS):
            x_BCHW = torch.where(part_of_step == part, colour(now, known.factors[part]), x_BCHW)
    return x_BCHW


def _rotate(x_BCHW: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    size = IMAGE_SIZE
    offset = 2 * torch.arange(size, device=x_BCHW.device) - (size - 1)
    x, y, middle = offset.view(1, 1, -1), offset.view(1, -1, 1), size << 24
    column_BHW, row_BHW = (cos * x - sin * y + middle) >> 25, (sin * x + cos * y + middle) >> 25
    inside = (column_BHW >= 0) & (column_BHW < size) & (row_BHW >= 0) & (row_BHW < size)
    index_B1P = (row_BHW * size + column_BHW).where(inside, 0).flatten(1).unsqueeze(1)
    turned_BCHW = x_BCHW.flatten(2).gather(2, index_B1P.expand(-1, 3, -1)).unflatten(2, (size, size))
    return turned_BCHW.where(inside.unsqueeze(1), 0.0)


def _enlarge(x_BCHW: Tensor, first: Tensor, weight: Tensor) -> Tensor:
    across = x_BCHW[..., first] * (1 - weight) + x_BCHW[..., first + 1] * weight
    down = weight[:, None]
    return across[..., first, :] * (1 - down) + across[..., first + 1, :] * down


def _erase(x_BCHW: Tensor, top: Tensor, left: Tensor, height: Tensor | int, width: Tensor | int) -> Tensor:
    line = torch.arange(x_BCHW.shape[2], device=x_BCHW.device)
    rows, columns = line.view(1, 1, -1, 1), line.view(1, 1, 1, -1)
    erased = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    return x_BCHW.masked_fill(erased, 0.0)
