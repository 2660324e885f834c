"""The definition of `apply`, in slow and simple torch code. Every other kernel is tested against this one. This one is
tested against torchvision's functional operations, applied sample by sample.

Shape suffixes: B batch, C channel, H W pixels.
"""

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from fastcifar.augment import BRIGHTNESS, CONTRAST, HUE, IMAGE_SIZE, REFLECTED, SATURATION, Augment, Draws
from fastcifar.errors import UsageError

GREY = (0.2989, 0.587, 0.114)  # ITU-R BT.601 luma, rounded as torchvision's rgb_to_grayscale has it
OUT_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def apply(images_BHWC: Tensor, draws: Draws, spec: Augment, out_dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the augmented images.

    images_BHWC: (B, 32, 32, 3) uint8 on any device. draws: the draws of the same B samples.
    Returns (B, 3, S, S) ``out_dtype`` in channels_last memory on the images' device, S = ``spec.out_size``.
    All arithmetic is float32; only the result is cast. Raises UsageError for other shapes or dtypes.
    """
    check_output(images_BHWC, len(draws), out_dtype)
    device = images_BHWC.device
    x_BCHW = images_BHWC.permute(0, 3, 1, 2).float() * (1 / 255)
    if spec.crop:
        x_BCHW = _crop(x_BCHW, draws, spec.crop_fill)
    x_BCHW = torch.where(_column(draws.flip, x_BCHW), x_BCHW.flip(3), x_BCHW)
    if spec.jitters:
        x_BCHW = _jitter(x_BCHW, draws)
    if spec.rotate:
        x_BCHW = _rotate(x_BCHW, draws)
    # The weights of the enlargement add up to 1, so normalising before it gives the same values to rounding, for about
    # a fiftieth of the pixels.
    mean, scale = (torch.from_numpy(values).to(device).view(1, 3, 1, 1) for values in normalisation(spec))
    x_BCHW = (x_BCHW - mean) * scale
    if spec.size:
        x_BCHW = _resize_crop(x_BCHW, *spec.size)
    if spec.erase:
        x_BCHW = _blank(x_BCHW, draws.erase_top, draws.erase_left, draws.erase_height, draws.erase_width)
    if spec.cutout:
        side = np.full_like(draws.cut_top, spec.cutout)
        x_BCHW = _blank(x_BCHW, draws.cut_top, draws.cut_left, side, side)
    return x_BCHW.to(out_dtype, memory_format=torch.channels_last)


def check_output(images_BHWC: Tensor, n_draws: int, out_dtype: torch.dtype) -> None:
    """Raise UsageError unless the arguments of an `apply` fit together."""
    shape = tuple(images_BHWC.shape)
    if len(shape) != 4 or shape[1:] != (IMAGE_SIZE, IMAGE_SIZE, 3) or images_BHWC.dtype != torch.uint8:
        raise UsageError(f"images are {shape} {images_BHWC.dtype}; apply takes (B, 32, 32, 3) torch.uint8")
    if shape[0] != n_draws:
        raise UsageError(f"{shape[0]} images but {n_draws} draws; draw for the ids of exactly these images")
    if out_dtype not in OUT_DTYPES:
        raise UsageError(f"out_dtype {out_dtype} is not one of {', '.join(map(str, OUT_DTYPES))}")


def normalisation(spec: Augment) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and 1 / std of the three channels, (3,) float32 each."""
    return np.array(spec.mean, np.float32), np.float32(1) / np.array(spec.std, np.float32)


Array = TypeVar("Array", bound=np.ndarray)


def _column(values: Array, like: Tensor) -> Tensor:
    """Return the per-sample values (B,) as (B, 1, 1, 1), which broadcasts over (B, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.device).view(-1, 1, 1, 1)


def _crop(x_BCHW: Tensor, draws: Draws, fill: str) -> Tensor:
    """Shift each image by its draw. Reflection mirrors positions at the image's outermost pixels."""
    last = IMAGE_SIZE - 1
    offset = torch.arange(IMAGE_SIZE, device=x_BCHW.device)
    row_BHW = (_column(draws.crop_top, x_BCHW)[:, 0] + offset.view(1, -1, 1)).expand(-1, -1, IMAGE_SIZE)
    column_BHW = (_column(draws.crop_left, x_BCHW)[:, 0] + offset).expand(-1, IMAGE_SIZE, -1)
    inside = (row_BHW >= 0) & (row_BHW <= last) & (column_BHW >= 0) & (column_BHW <= last)
    row_BHW, column_BHW = (last - (last - at.abs()).abs() for at in (row_BHW, column_BHW))
    index_BCP = (row_BHW * IMAGE_SIZE + column_BHW).flatten(1).unsqueeze(1).expand(-1, 3, -1)
    moved_BCHW = x_BCHW.flatten(2).gather(2, index_BCP).unflatten(2, (IMAGE_SIZE, IMAGE_SIZE))
    return moved_BCHW if fill == REFLECTED else moved_BCHW.where(inside.unsqueeze(1), 0.0)


def _jitter(x_BCHW: Tensor, draws: Draws) -> Tensor:
    parts = {BRIGHTNESS: _brightness, CONTRAST: _contrast, SATURATION: _saturation, HUE: _hue}
    factors = {
        BRIGHTNESS: draws.brightness, CONTRAST: draws.contrast, SATURATION: draws.saturation, HUE: draws.hue,
    }  # fmt: skip
    for step in range(4):
        now = x_BCHW
        for part, function in parts.items():
            chosen = _column(draws.order[:, step] == part, now)
            x_BCHW = torch.where(chosen, function(now, _column(factors[part], now)), x_BCHW)
    return x_BCHW


def _grey(x_BCHW: Tensor) -> Tensor:
    red, green, blue = x_BCHW.split(1, dim=1)
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue


def _blend(x_BCHW: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (factor * x_BCHW + (1 - factor) * other).clamp(0, 1)


def _brightness(x_BCHW: Tensor, factor: Tensor) -> Tensor:
    return (x_BCHW * factor).clamp(0, 1)


def _contrast(x_BCHW: Tensor, factor: Tensor) -> Tensor:
    # In float64 the sum is exact for all but very rare images, so the order of the additions does not matter.
    mean = _grey(x_BCHW).double().mean(dim=(1, 2, 3), keepdim=True).float()
    return _blend(x_BCHW, mean, factor)


def _saturation(x_BCHW: Tensor, factor: Tensor) -> Tensor:
    return _blend(x_BCHW, _grey(x_BCHW), factor)


def _hue(x_BCHW: Tensor, turn: Tensor) -> Tensor:
    """Add ``turn``, in turns of the circle, to the hue of HSV.

    Value and chroma stay the same, so the closed form of HSV's inverse needs no sectors: channel n (red 5, green 3,
    blue 1) is value - chroma * clamp(min(k, 4 - k), 0, 1) with k = (n + 6 hue) mod 6.
    """
    red, green, blue = x_BCHW.split(1, dim=1)
    value, chroma = x_BCHW.amax(1, keepdim=True), x_BCHW.amax(1, keepdim=True) - x_BCHW.amin(1, keepdim=True)
    divisor = torch.where(chroma == 0, 1.0, chroma)
    sextant = torch.where(
        red == value,
        (green - blue) / divisor,
        torch.where(green == value, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sextant = sextant + 6 * turn
    sextant = torch.where(sextant < 0, sextant + 6, sextant)
    sextant = torch.where(sextant >= 6, sextant - 6, sextant)
    k = torch.cat([n + sextant for n in (5, 3, 1)], dim=1)
    k = torch.where(k >= 6, k - 6, k)
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def _rotate(x_BCHW: Tensor, draws: Draws) -> Tensor:
    """Rotate each image about its centre by its draw. Pixels from outside the image are 0.

    Each output position is rotated back, and takes the nearest source pixel. Positions are integers in units of 2**-25
    pixel: offsets from the centre (odd multiples of half a pixel) times cosine and sine.
    """
    size = IMAGE_SIZE
    cos, sin = (_column(values.astype(np.int64), x_BCHW)[:, 0] for values in (draws.cos, draws.sin))
    offset = 2 * torch.arange(size, device=x_BCHW.device) - (size - 1)
    x, y = offset.view(1, 1, -1), offset.view(1, -1, 1)
    centre, half = (size - 1) << 24, 1 << 24
    column_BHW = (cos * x - sin * y + centre + half) >> 25
    row_BHW = (sin * x + cos * y + centre + half) >> 25
    inside = (column_BHW >= 0) & (column_BHW < size) & (row_BHW >= 0) & (row_BHW < size)
    index_BCP = (row_BHW * size + column_BHW).where(inside, 0).flatten(1).unsqueeze(1).expand(-1, 3, -1)
    turned_BCHW = x_BCHW.flatten(2).gather(2, index_BCP).unflatten(2, (size, size))
    return turned_BCHW.where(inside.unsqueeze(1), 0.0)


def resize_taps(resize: int, crop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the interpolation taps of an enlargement 32 → ``resize`` for its central ``crop`` rows (or columns).

    Returns (crop,) int64 in [0, 30], the first of the two source pixels, and (crop,) float32, the weight of the second.
    Pixel centres are at halves. Outside the centres of the edge pixels only the edge pixel counts.
    """
    place = (np.arange(crop) + (resize - crop) // 2 + 0.5) * (IMAGE_SIZE / resize) - 0.5
    place = place.clip(0, IMAGE_SIZE - 1)
    first = np.minimum(place.astype(np.int64), IMAGE_SIZE - 2)
    return first, (place - first).astype(np.float32)


def _resize_crop(x_BCHW: Tensor, resize: int, crop: int) -> Tensor:
    first_np, weight_np = resize_taps(resize, crop)
    first, weight = torch.from_numpy(first_np).to(x_BCHW.device), torch.from_numpy(weight_np).to(x_BCHW.device)
    across = x_BCHW[..., first] * (1 - weight) + x_BCHW[..., first + 1] * weight
    down = weight[:, None]
    return across[..., first, :] * (1 - down) + across[..., first + 1, :] * down


def _blank(x_BCHW: Tensor, *rectangle: np.ndarray) -> Tensor:
    """Set a rectangle of each image to 0, as far as it lies in the image. rectangle: top, left, height, width, (B,)."""
    rows = torch.arange(x_BCHW.shape[2], device=x_BCHW.device).view(1, 1, -1, 1)
    columns = rows.view(1, 1, 1, -1)
    top, left, height, width = (_column(values, x_BCHW) for values in rectangle)
    erased = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    return x_BCHW.masked_fill(erased, 0.0)
