"""torchvision's own functional operations with our draws, one sample at a time.

Most people run these operations, and the reference kernel is tested against them.
"""

import numpy as np
import torch
from fastcifar.kernels.reference import check_output
from numpy.typing import NDArray
from torch import Tensor

from fastcifar.augment import IMAGE_SIZE, REFLECTED, Augment, Draws
from fastcifar.rng import fixedpoint
from fastcifar.system.vision import InterpolationMode
from fastcifar.system.vision import functional as F


def apply(images_BHWC: Tensor, draws: Draws, spec: Augment, out_dtype: torch.dtype = torch.float32) -> Tensor:
    """Augment as `reference.apply` does, by torchvision, on the images' device.

    Arguments and errors are the same. The pixels equal the reference's to rounding, except those of
    `rotation_ties`. There torchvision's float32 coordinates may choose a neighbouring source pixel.
    """
    check_output(images_BHWC, len(draws), out_dtype)
    size = spec.out_size
    out = torch.empty(
        (len(draws), 3, size, size), dtype=out_dtype, device=images_BHWC.device, memory_format=torch.channels_last
    )
    for n in range(len(draws)):
        out[n] = apply_one(images_BHWC[n], draws, n, spec)
    return out


def apply_one(image_HWC: Tensor, draws: Draws, n: int, spec: Augment) -> Tensor:
    """Apply sample ``n`` of the draws to one (32, 32, 3) uint8 image. Returns (3, S, S) float32."""
    x_CHW = F.to_dtype(image_HWC.permute(2, 0, 1), torch.float32, scale=True)
    if spec.crop:
        mode = "reflect" if spec.crop_fill == REFLECTED else "constant"
        padded = F.pad(x_CHW, [spec.crop], padding_mode=mode)
        top, left = int(draws.crop_top[n]) + spec.crop, int(draws.crop_left[n]) + spec.crop
        x_CHW = F.crop(padded, top, left, IMAGE_SIZE, IMAGE_SIZE)
    if draws.flip[n]:
        x_CHW = F.horizontal_flip(x_CHW)
    if spec.jitters:
        parts = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
        factors = (draws.brightness[n], draws.contrast[n], draws.saturation[n], draws.hue[n])
        for part in draws.order[n]:
            x_CHW = parts[part](x_CHW, float(factors[part]))
    if spec.rotate:
        x_CHW = F.rotate(x_CHW, float(draws.degrees[n]), interpolation=InterpolationMode.NEAREST)
    if spec.size:
        resize, crop = spec.size
        x_CHW = F.resize(x_CHW, [resize], interpolation=InterpolationMode.BILINEAR, antialias=True)
        x_CHW = F.center_crop(x_CHW, [crop])
    x_CHW = F.normalize(x_CHW, list(spec.mean), list(spec.std))
    if spec.erase and draws.erase_height[n]:
        corner_and_size = (draws.erase_top[n], draws.erase_left[n], draws.erase_height[n], draws.erase_width[n])
        x_CHW = F.erase(x_CHW, *map(int, corner_and_size), v=torch.zeros(1, 1, 1))
    if spec.cutout:
        top, left = max(0, int(draws.cut_top[n])), max(0, int(draws.cut_left[n]))
        bottom, right = int(draws.cut_top[n]) + spec.cutout, int(draws.cut_left[n]) + spec.cutout
        x_CHW = F.erase(x_CHW, top, left, bottom - top, right - left, v=torch.zeros(1, 1, 1))
    return x_CHW


def rotation_ties(draws: Draws, within: float = 4e-6) -> NDArray[np.bool_]:
    """Return (B, 32, 32) bool: the output pixels for which rounding decides which source pixel is nearest.

    For such a pixel the source position, computed in float64, is less than ``within`` pixels from the boundary between
    two source pixels. The resolution of float32 is 2e-6 for coordinates up to 32.
    """
    radians = draws.angle.astype(np.float64) * (2 * np.pi / fixedpoint.TURN)
    cos, sin = np.cos(radians)[:, None, None], np.sin(radians)[:, None, None]
    centre = (IMAGE_SIZE - 1) / 2
    y, x = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE] - centre
    ties = np.zeros((len(draws), IMAGE_SIZE, IMAGE_SIZE), np.bool_)
    for place in (cos * x - sin * y + centre, sin * x + cos * y + centre):
        ties |= np.abs(place - np.floor(place) - 0.5) < within
    return ties
