"""The augmentations of an image (`Augment`), and the random numbers that select them for each image (`draw`).

Every draw uses integers. A float is made from an integer, either exactly or by one correctly rounded operation. So
numpy here, numba in ``kernels/cpu`` and Triton on a GPU agree on every bit, whatever their libm computes and wherever
their compilers use fused multiply-add.
"""

import math
import re
from dataclasses import dataclass, fields, replace
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcifar.errors import UsageError
from fastcifar.rng import fixedpoint
from fastcifar.rng.philox import Stream, scaled, words

IMAGE_SIZE = 32  # pixels per side, as in CIFAR; the kernels support no other size
ERASE_TRIES = 10  # torchvision's RandomErasing gives up after 10 rectangles that do not fit
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
JITTER_ORDERS = np.array(list(permutations(range(4))), np.uint8)  # (24, 4), lexicographic

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Augment:
    """The augmentations of an image, with torchvision's per-sample semantics on float images in [0, 1].

    They are applied in this order:

    1. A left-right flip.
    2. Colour jitter: its four parts in a random order, each clamped to [0, 1]. Contrast blends with the mean grey of
       the current image; grey = 0.2989 R + 0.587 G + 0.114 B. Hue is changed in HSV.
    3. A rotation about the centre, counter-clockwise for positive angles, to the nearest pixel; zeros from outside.
    4. A bilinear resize (half-pixel centres, edge pixels repeated), then the centre crop. Antialiasing would change
       nothing, because the resize only enlarges.
    5. The normalisation ``(x - mean) / std``.
    6. Erasing: one rectangle is set to 0 *after* the normalisation.

    Raises UsageError when a field is outside its range.
    """

    flip: float = 0.0
    """The probability of a left-right flip, in [0, 1]."""
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
    size: tuple[int, int] | None = None
    """(resize, crop) in pixels, 32 <= crop <= resize <= 1024, resize - crop even. None keeps 32 x 32."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The mean of each channel, in [0, 1]."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """The standard deviation of each channel, in [1e-6, 100]."""

    def __post_init__(self) -> None:
        for name, top in {
            "flip": 1, "brightness": 100, "contrast": 100, "saturation": 100, "hue": 0.5, "rotate": 180, "erase": 1,
        }.items():  # fmt: skip
            self._within(name, getattr(self, name), 0, top)
        for name, low, high in (("erase_area", 1e-6, 1), ("erase_aspect", 0.01, 100)):
            pair = getattr(self, name)
            for bound in pair:
                self._within(name, bound, low, high)
            if pair[0] > pair[1]:
                raise UsageError(f"augment: {name} {pair} has its low bound above its high one; swap them")
        for name, low, high in (("mean", 0, 1), ("std", 1e-6, 100)):
            if len(getattr(self, name)) != 3:
                raise UsageError(f"augment: {name} {getattr(self, name)} must have three values: red, green, blue")
            for value in getattr(self, name):
                self._within(name, value, low, high)
        if self.size is not None:
            resize, crop = self.size
            self._within("size (resize)", resize, IMAGE_SIZE, 1024)
            self._within("size (crop)", crop, IMAGE_SIZE, resize)
            if (resize - crop) % 2:
                raise UsageError(f"augment: size {self.size}: resize - crop must be even for a centre crop")

    @staticmethod
    def _within(name: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            raise UsageError(f"augment: {name} {value} is outside [{low:g}, {high:g}]")

    @property
    def jitters(self) -> bool:
        """Whether any of the four colour parts can change a pixel."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))

    @property
    def out_size(self) -> int:
        """The height and width of the resulting images, in pixels."""
        return self.size[1] if self.size else IMAGE_SIZE

    @property
    def random(self) -> bool:
        """Whether two draws can differ. False for the recipe none and for preprocessing alone."""
        return bool(self.flip or self.jitters or self.rotate or self.erase)

    def still(self) -> "Augment":
        """Return the same preprocessing (size, mean, std) without random parts, as clean evaluation needs it."""
        return Augment(size=self.size, mean=self.mean, std=self.std)

    def bounds(self) -> "Bounds":
        """Return the integer bounds from which `draw` draws."""
        return Bounds.of(self)


_BASIC = Augment(flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1, rotate=10.0)

RECIPES: dict[str, Augment] = {
    "none": Augment(),
    "basic": _BASIC,
    "erasing": replace(_BASIC, erase=0.5),
    "imagenet256": Augment(size=(256, 224), mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "imagenet384": Augment(size=(384, 384), mean=IMAGENET_MEAN, std=IMAGENET_STD),
}
"""The recipes by name: the report's three for 32 x 32 images, and two for the networks of experiment 4."""

NORMALISATIONS = {"imagenet": (IMAGENET_MEAN, IMAGENET_STD), "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))}
"""The mean and std for each prefix of a recipe of another network. The recipe imagenet232-224 enlarges to 232 pixels,
crops to 224 and normalises; the recipe imagenet only normalises."""
_PREPROCESSING = re.compile(rf"({'|'.join(NORMALISATIONS)})(?:(\d+)-(\d+))?")


def recipe(name: str) -> Augment:
    """Return a recipe by its name: one of RECIPES, or a preprocessing recipe. Raises UsageError for another name."""
    if name in RECIPES:
        return RECIPES[name]
    parts = _PREPROCESSING.fullmatch(name)
    if parts is None:
        raise UsageError(f"recipe {name!r} does not exist; there are {', '.join(RECIPES)}")
    mean, std = NORMALISATIONS[parts[1]]
    return Augment(size=(int(parts[2]), int(parts[3])) if parts[2] else None, mean=mean, std=std)


class Bounds(NamedTuple):
    """An Augment as integers.

    flip and erase are probabilities in units of 2**-32. A field NAME with a field NAME_span gives the draw
    NAME + scaled(word, NAME_span). out_size is in pixels.
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
            round(spec.flip * (1 << 32)),
            *factors[0],
            *factors[1],
            *factors[2],
            *span(-spec.hue, spec.hue, fixedpoint.FACTOR_ONE),
            *span(-spec.rotate / 360, spec.rotate / 360, fixedpoint.TURN),
            round(spec.erase * (1 << 32)),
            *span(*spec.erase_area, fixedpoint.AREA_ONE),
            *span(math.log2(spec.erase_aspect[0]), math.log2(spec.erase_aspect[1]), fixedpoint.LOG2_ONE),
            spec.out_size,
        )


@dataclass(frozen=True)
class Draws:
    """The drawn augmentation of each of N images: arrays of length N, with one entry per sample.

    ``order`` (N, 4) uint8 holds the jitter parts (0 brightness, 1 contrast, 2 saturation, 3 hue) in the order in which
    they are applied. ``angle`` int32 is in units of 2**-31 turns (``degrees`` gives float64 degrees). ``cos`` and
    ``sin`` int32 have 24 fractional bits. ``erase_*`` int32 are pixels of the *output* image; height 0 means that
    nothing is erased.
    """

    flip: NDArray[np.bool_]
    order: NDArray[np.uint8]
    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]
    saturation: NDArray[np.float32]
    hue: NDArray[np.float32]
    angle: NDArray[np.int32]
    cos: NDArray[np.int32]
    sin: NDArray[np.int32]
    erase_top: NDArray[np.int32]
    erase_left: NDArray[np.int32]
    erase_height: NDArray[np.int32]
    erase_width: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.flip)

    def __getitem__(self, rows: Any) -> "Draws":
        """Return the draws of some samples. rows: any numpy index that keeps the first axis."""
        return Draws(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def degrees(self) -> NDArray[np.float64]:
        """The rotation angles in degrees, counter-clockwise."""
        return self.angle.astype(np.float64) * (360.0 / fixedpoint.TURN)

    @classmethod
    def empty(cls, n: int) -> "Draws":
        """Return arrays for the draws of n images, not initialised."""
        arrays: list[NDArray[Any]] = [np.empty(n, np.bool_), np.empty((n, 4), np.uint8)]
        arrays += [np.empty(n, np.float32) for _ in range(4)] + [np.empty(n, np.int32) for _ in range(7)]
        return cls(*arrays)


def draw(spec: Augment, seed: int, epoch: int, ids: ArrayLike) -> Draws:
    """Draw the augmentation of each sample.

    ids: (N,) sample ids in [0, 2**32). seed: in [0, 2**64). An augmentation that ``spec`` leaves out does not change
    the draws of the others.
    """
    ids = np.asarray(ids, np.int64)
    bounds = spec.bounds()
    gate_flip, gate_angle, gate_order, gate_erase = words(seed, Stream.GATES, ids, epoch)
    jitter = words(seed, Stream.JITTER, ids, epoch)
    factors = [
        (low + scaled(word, span)).astype(np.float32) * np.float32(1 / fixedpoint.FACTOR_ONE)
        for word, low, span in zip(jitter, bounds[1:9:2], bounds[2:9:2], strict=True)
    ]
    angle = bounds.rotate + scaled(gate_angle, bounds.rotate_span)
    cos, sin = fixedpoint.cos_sin(angle)
    rectangle = _rectangles(bounds, seed, epoch, ids, gate_erase < bounds.erase)
    arrays: list[NDArray[Any]] = [gate_flip < bounds.flip, JITTER_ORDERS[scaled(gate_order, len(JITTER_ORDERS))]]
    arrays += [*factors, *(whole.astype(np.int32) for whole in (angle, cos, sin)), *rectangle]
    return Draws(*arrays)


def _rectangles(
    bounds: Bounds, seed: int, epoch: int, ids: NDArray[np.int64], wanted: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Return (4, N) int32: top, left, height and width of each image's rectangle; 0 where nothing is erased.

    It is the first of ERASE_TRIES rectangles that fits. wanted: the images to erase from; the function changes it.
    """
    out = np.zeros((4, len(ids)), np.int32)
    size = bounds.out_size
    for block in range(ERASE_TRIES):
        if not wanted.any():
            break
        rows = np.flatnonzero(wanted)
        area_word, aspect_word, top_word, left_word = words(seed, Stream.ERASE, ids[rows], epoch, block)
        area = bounds.area + scaled(area_word, bounds.area_span)
        aspect = bounds.aspect + scaled(aspect_word, bounds.aspect_span)
        height, width = fixedpoint.rectangle(area, aspect, size)
        fits = (height < size) & (width < size)
        top, left = scaled(top_word, size - height + 1), scaled(left_word, size - width + 1)
        out[:, rows[fits]] = np.stack([top, left, height, width])[:, fits]
        wanted[rows[fits]] = False
    return out
