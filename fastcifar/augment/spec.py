"""The augmentations of an image (`Augment`), and the integers from which their random numbers are drawn (`Bounds`)."""

import math
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import numpy as np

from fastcifar.errors import UsageError
from fastcifar.rng import fixedpoint

IMAGE_SIZE = 32  # pixels per side, as in CIFAR; the kernels support no other size
ERASE_TRIES = 10  # torchvision's RandomErasing gives up after 10 rectangles that do not fit
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
JITTER_ORDERS = np.array(list(permutations(range(4))), np.uint8)  # (24, 4), lexicographic
ALTERNATING = "alternating"
REFLECTED, ZEROS = "reflected", "zeros"

_PARTS = {
    "erase_area": ("low", "high"), "erase_aspect": ("low", "high"), "size": ("resize", "crop"),
    "mean": ("red", "green", "blue"), "std": ("red", "green", "blue"),
}  # fmt: skip
"""The parts of the fields that have several values."""


@dataclass(frozen=True)
class Augment:
    """The augmentations of an image, with torchvision's per-sample semantics on float images in [0, 1].

    They are applied in this order:

    1. A crop: the image is padded on all sides, and a random part of its own size is kept, as in torchvision's
       ``RandomCrop(32, padding)``. So the image is shifted by whole pixels.
    2. A left-right flip.
    3. Colour jitter: its four parts in a random order, each clamped to [0, 1]. Contrast blends with the mean grey of
       the current image; grey = 0.2989 R + 0.587 G + 0.114 B. Hue is changed in HSV.
    4. A rotation about the centre, counter-clockwise for positive angles, to the nearest pixel; zeros from outside.
    5. A bilinear resize (half-pixel centres, edge pixels repeated), then the centre crop. Antialiasing would change
       nothing, because the resize only enlarges.
    6. The normalisation ``(x - mean) / std``.
    7. Erasing: one rectangle is set to 0 *after* the normalisation.
    8. Cutout: a square is set to 0 (T. DeVries, G. Taylor, "Improved regularization of convolutional neural networks
       with Cutout", 2017).

    Raises UsageError when a field is outside its range.
    """

    flip: float | str = 0.0
    """The probability of a left-right flip, in [0, 1]; or "alternating": half of the images are flipped in even epochs,
    the other half in odd epochs (K. Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024)."""
    brightness: float = 0.0
    """The strength v, in [0, 100]: the brightness factor is uniform in [max(0, 1 - v), 1 + v)."""
    contrast: float = 0.0
    """The strength of the contrast factor, defined as for brightness."""
    saturation: float = 0.0
    """The strength of the saturation factor, defined as for brightness."""
    hue: float = 0.0
    """The strength v, in [0, 0.5]: the hue is shifted by a uniform part of a full turn, in [-v, v)."""
    rotate: float = 0.0
    """The largest angle v in degrees, in [0, 180]: the angle is uniform in [-v, v)."""
    erase: float = 0.0
    """The probability that a rectangle is erased, in [0, 1]."""
    erase_area: tuple[float, float] = (0.02, 0.33)
    """The erased share of the image: uniform in [low, high); 1e-6 <= low <= high <= 1."""
    erase_aspect: tuple[float, float] = (0.3, 3.3)
    """The height / width of the rectangle: log-uniform in [low, high); 0.01 <= low <= high <= 100."""
    crop: int = 0
    """The padding of the crop in pixels, in [0, 31]: the shift of each axis is uniform in [-crop, crop]."""
    crop_fill: str = REFLECTED
    """The pixels of the padding: "reflected" mirrors the image at its outermost pixels, "zeros" is black."""
    cutout: int = 0
    """The side of the cutout's square in pixels, in [0, out_size]. Its centre is uniform on the image's pixels (for an
    even side, the centre is the pixel below and to the right of the square's middle), and the border cuts it off."""
    size: tuple[int, int] | None = None
    """(resize, crop) in pixels, 32 <= crop <= resize <= 1024, resize - crop even. None keeps 32 x 32."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The mean of each channel, in [0, 1]."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """The standard deviation of each channel, in [1e-6, 100]."""

    def __post_init__(self) -> None:
        if isinstance(self.flip, str) and self.flip != ALTERNATING:
            raise UsageError(f"augment: flip {self.flip!r} is neither a probability in [0, 1] nor {ALTERNATING!r}")
        for name, top in {
            "flip": 1, "brightness": 100, "contrast": 100, "saturation": 100, "hue": 0.5, "rotate": 180, "erase": 1,
            "crop": IMAGE_SIZE - 1,
        }.items():  # fmt: skip
            if getattr(self, name) != ALTERNATING:
                self._within(name, getattr(self, name), 0, top)
        if self.crop_fill not in (REFLECTED, ZEROS):
            raise UsageError(f"augment: crop_fill {self.crop_fill!r} is neither {REFLECTED!r} nor {ZEROS!r}")
        for name, parts in _PARTS.items():
            values = getattr(self, name)
            if values is not None and len(values) != len(parts):
                count = {2: "two", 3: "three"}[len(parts)]
                raise UsageError(f"augment: {name} {values} must have {count} values: {', '.join(parts)}")
        for name, low, high in (("erase_area", 1e-6, 1), ("erase_aspect", 0.01, 100)):
            pair = getattr(self, name)
            for bound in pair:
                self._within(name, bound, low, high)
            if pair[0] > pair[1]:
                raise UsageError(f"augment: {name} {pair} has its low bound above its high one; swap them")
        for name, low, high in (("mean", 0, 1), ("std", 1e-6, 100)):
            for value in getattr(self, name):
                self._within(name, value, low, high)
        if self.size is not None:
            resize, crop = self.size
            self._within("size (resize)", resize, IMAGE_SIZE, 1024)
            self._within("size (crop)", crop, IMAGE_SIZE, resize)
            if (resize - crop) % 2:
                raise UsageError(f"augment: size {self.size}: resize - crop must be even for a centre crop")
        self._within("cutout", self.cutout, 0, self.out_size)
        for name in ("crop", "cutout"):
            if getattr(self, name) != int(getattr(self, name)):
                raise UsageError(f"augment: {name} {getattr(self, name)} is not a whole number of pixels")

    @staticmethod
    def _within(name: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            raise UsageError(f"augment: {name} {value} is outside [{low:g}, {high:g}]")

    @property
    def jitters(self) -> bool:
        """Whether any of the four colour parts can change a pixel."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))

    @property
    def alternates(self) -> bool:
        """Whether an image is flipped in every second epoch, not by chance."""
        return self.flip == ALTERNATING

    @property
    def out_size(self) -> int:
        """The height and width of the resulting images, in pixels."""
        return self.size[1] if self.size else IMAGE_SIZE

    @property
    def random(self) -> bool:
        """Whether two draws can differ. False for the recipe none and for preprocessing alone."""
        return bool(self.flip or self.jitters or self.rotate or self.erase or self.crop or self.cutout)

    def still(self) -> "Augment":
        """Return the same preprocessing (size, mean, std) without random parts, as clean evaluation needs it."""
        return Augment(size=self.size, mean=self.mean, std=self.std)

    def bounds(self) -> "Bounds":
        """Return the integer bounds from which `draw` draws."""
        return Bounds.of(self)


class Bounds(NamedTuple):
    """An Augment as integers.

    flip and erase are probabilities in units of 2**-32. alternates is 1 or 0. A field NAME with a field NAME_span gives
    the draw NAME + scaled(word, NAME_span). out_size is in pixels.
    """

    flip: int
    brightness: int
    brightness_span: int
    contrast: int
    contrast_span: int
    saturation: int
    saturation_span: int
    hue: int
    hue_span: int
    rotate: int
    rotate_span: int
    erase: int
    area: int
    area_span: int
    aspect: int
    aspect_span: int
    out_size: int
    crop: int
    crop_span: int
    cut: int
    cut_span: int
    alternates: int

    @classmethod
    def of(cls, spec: Augment) -> "Bounds":
        """Return the bounds of an Augment."""

        def span(low: float, high: float, one: int) -> tuple[int, int]:
            return round(low * one), round(high * one) - round(low * one)

        factors = [
            span(max(0.0, 1 - strength), 1 + strength, fixedpoint.FACTOR_ONE)
            for strength in (spec.brightness, spec.contrast, spec.saturation)
        ]
        return cls(
            round((0.5 if isinstance(spec.flip, str) else spec.flip) * (1 << 32)),
            *factors[0],
            *factors[1],
            *factors[2],
            *span(-spec.hue, spec.hue, fixedpoint.FACTOR_ONE),
            *span(-spec.rotate / 360, spec.rotate / 360, fixedpoint.TURN),
            round(spec.erase * (1 << 32)),
            *span(*spec.erase_area, fixedpoint.AREA_ONE),
            *span(math.log2(spec.erase_aspect[0]), math.log2(spec.erase_aspect[1]), fixedpoint.LOG2_ONE),
            spec.out_size,
            -int(spec.crop),
            2 * int(spec.crop) + 1,
            -(int(spec.cutout) // 2),
            spec.out_size,
            int(spec.alternates),
        )
