"""The augmentations of an image (`Augment`), and the random numbers that select them for each image (`draw`).

Every draw uses integers. A float is made from an integer, either exactly or by one correctly rounded operation. So
numpy here, numba in ``kernels/cpu`` and Triton on a GPU agree on every bit, whatever their libm computes and wherever
their compilers use fused multiply-add.
"""

import math
from dataclasses import dataclass, fields
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


@dataclass(frozen=True)
class Draws:
    """The drawn augmentation of each of N images: arrays of length N, with one entry per sample.

    ``order`` (N, 4) uint8 holds the jitter parts (0 brightness, 1 contrast, 2 saturation, 3 hue) in the order in which
    they are applied. ``angle`` int32 is in units of 2**-31 turns (``degrees`` gives float64 degrees). ``cos`` and
    ``sin`` int32 have 24 fractional bits. ``erase_*`` int32 are pixels of the *output* image; height 0 means that
    nothing is erased. ``crop_*`` int32 are the row and the column of the source image that the crop moves to the upper
    left corner; negative numbers lie in the padding. ``cut_*`` int32 are the upper left corner of the cutout's square
    in the output image, which may lie outside.
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
    crop_top: NDArray[np.int32]
    crop_left: NDArray[np.int32]
    cut_top: NDArray[np.int32]
    cut_left: NDArray[np.int32]

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
        arrays += [np.empty(n, np.float32) for _ in range(4)] + [np.empty(n, np.int32) for _ in range(11)]
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
    crop_top, crop_left, cut_top, cut_left = words(seed, Stream.PLACES, ids, epoch)
    places = [bounds.crop + scaled(word, bounds.crop_span) for word in (crop_top, crop_left)]
    places += [bounds.cut + scaled(word, bounds.cut_span) for word in (cut_top, cut_left)]
    arrays: list[NDArray[Any]] = [_flips(bounds, seed, epoch, ids, gate_flip)]
    arrays += [JITTER_ORDERS[scaled(gate_order, len(JITTER_ORDERS))], *factors]
    arrays += [*(whole.astype(np.int32) for whole in (angle, cos, sin)), *rectangle]
    arrays += [place.astype(np.int32) for place in places]
    return Draws(*arrays)


def _flips(
    bounds: Bounds, seed: int, epoch: int, ids: NDArray[np.int64], word: NDArray[np.uint32]
) -> NDArray[np.bool_]:
    """Return (N,) bool, whether each image is flipped. word: the epoch's random number of each image.

    Alternating flips use one random number for all epochs instead, and the epoch's parity.
    """
    if not bounds.alternates:
        return word < bounds.flip
    return (words(seed, Stream.COIN, ids)[0] < bounds.flip) ^ bool(epoch & 1)


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
