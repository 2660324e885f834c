"""The augmentations of an image (`Augment`), and the random numbers that select them for each image (`draw`)."""

from fastcifar.augment.draws import Draws, draw
from fastcifar.augment.spec import (
    ALTERNATING,
    BRIGHTNESS,
    CONTRAST,
    ERASE_TRIES,
    HUE,
    IMAGE_SIZE,
    JITTER_ORDERS,
    REFLECTED,
    SATURATION,
    ZEROS,
    Augment,
    Bounds,
)  # fmt: skip

__all__ = [
    "ALTERNATING", "BRIGHTNESS", "CONTRAST", "ERASE_TRIES", "HUE", "IMAGE_SIZE", "JITTER_ORDERS", "REFLECTED",
    "SATURATION", "ZEROS", "Augment", "Bounds", "Draws", "draw",
]  # fmt: skip
