"""torchvision's own functional operations, one sample at a time, with our draws: what most people run, and what the
reference is held against.
"""

import numpy as np
import torch
import torchvision.transforms.v2.functional as F
from fastcifar.kernels.reference import check
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode

from fastcifar.augment import IMAGE_SIZE, Augment, Draws
from fastcifar.rng import fixedpoint


def apply(images_BHWC: Tensor, draws: Draws, spec: Augment, out_dtype: torch.dtype = torch.float32) -> Tensor:
    """`reference.apply` by torchvision, on the images' device. Same arguments and errors.

    Equal to rounding but where `rotation_ties` says: there torchvision's float32 coordinates may choose the neighbour.
    """
    check(images_BHWC, len(draws), out_dtype)
    size = spec.out_size
    out = torch.empty(
        (len(draws), 3, size, size), dtype=out_dtype, device=images_BHWC.device, memory_format=torch.channels_last
    )
    for n in range(len(draws)):
        out[n] = apply_one(images_BHWC[n], draws, n, spec)
    return out


def apply_one(image_HWC: Tensor, draws: Draws, n: int, spec: Augment) -> Tensor:
    """(3, S, S) float32: sample ``n`` of the draws applied to one (32, 32, 3) uint8 image."""
    x_CHW = F.to_dtype(image_HWC.permute(2, 0, 1), torch.float32, scale=True)
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
    return x_CHW


def rotation_ties(draws: Draws, within: float = 4e-6) -> NDArray[np.bool_]:
    """(B, 32, 32): output pixels whose source place, computed in float64, lies ``within`` pixels of the boundary
    between two. float32 holds coordinates up to 32 to 2e-6, so which of the two is nearest is a matter of rounding.
    """
    radians = draws.angle.astype(np.float64) * (2 * np.pi / fixedpoint.TURN)
    cos, sin = np.cos(radians)[:, None, None], np.sin(radians)[:, None, None]
    centre = (IMAGE_SIZE - 1) / 2
    y, x = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE] - centre
    ties = np.zeros((len(draws), IMAGE_SIZE, IMAGE_SIZE), np.bool_)
    for place in (cos * x - sin * y + centre, sin * x + cos * y + centre):
        ties |= np.abs(place - np.floor(place) - 0.5) < within
    return ties
