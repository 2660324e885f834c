"""The recipe as a graph of DALI's operators, and the operators' arguments, which are made from our draws.

A shape such as HWC is the shape of one sample, because DALI's batches are lists of samples. Operators run on the device
of their input.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from fastcifar.kernels.reference import GREY, normalisation
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn, math, pipeline_def, types

from fastcifar.augment import BRIGHTNESS, CONTRAST, IMAGE_SIZE, REFLECTED, SATURATION, Augment, Draws

Node = Any  # DALI's DataNode: a batch on its way through the graph
Fed = dict[str, Node]

PIXEL = 1 / 255
SEXTANTS = np.array([-3, 1, -1], np.float32)  # hue, in sixths of a turn, from where red, green, blue are least
GREY_WEIGHTS = np.array(GREY, np.float32)
JITTER_STEPS = tuple(f"part{step}" for step in range(4))


def build_graph(
    spec: Augment,
    source: Callable[[], list[NDArray[Any]]],
    names: list[str],
    *,
    stock: bool = False,
    half: bool = False,
    **options: Any,
) -> Pipeline:
    """Build a DALI pipeline for a recipe.

    source: returns a batch for each of the names, and raises StopIteration at the end of the epoch. names: image,
    label, id, and the names of `arguments`. stock: use DALI's own colour operator. half: make float16 pixels instead of
    float32. options: the options of DALI's Pipeline.

    The outputs of the pipeline are images (S, S, 3), labels and ids, on the device where the operators run.
    """

    @pipeline_def(enable_conditionals=True, **options)
    def graph() -> tuple[Node, ...]:
        nodes = fn.external_source(source, num_outputs=len(names))
        fed = {name: nodes[n] for n, name in enumerate(names)}
        image, label, id_ = fn.reshape(fed["image"], layout="HWC"), fed["label"], fed["id"]
        if options["device_id"] is not None:
            image, label, id_ = image.gpu(), label.gpu(), id_.gpu()  # for these copies DALI uses pinned memory
        image = augmented(image, fed, spec, stock)
        if half:
            image = fn.cast(image, dtype=types.FLOAT16)
        return image, label, id_

    pipeline = graph()
    pipeline.build()
    return pipeline


def arguments(spec: Augment, draws: Draws, stock: bool = False) -> dict[str, NDArray[Any]]:
    """Return the arguments of the operators of `augmented` for B samples: arrays (B, ...) by name.

    stock: the arguments for DALI's own colour operator.
    """
    values: dict[str, NDArray[Any]] = {}
    if spec.crop:
        margin = spec.crop if spec.crop_fill == REFLECTED else 0
        values["crop"] = np.stack([draws.crop_top, draws.crop_left], 1) + np.int32(margin)
    if spec.flip:
        values["flip"] = draws.flip.astype(np.int32)
    if spec.jitters:
        values |= {"brightness": draws.brightness, "contrast": draws.contrast}
    if spec.jitters and stock:
        values |= {"saturation": draws.saturation, "hue": draws.hue * np.float32(360)}
    elif spec.jitters:
        values |= {"saturation": saturating(draws.saturation), "hue": draws.hue * np.float32(6)}
        values |= dict(zip(JITTER_STEPS, draws.order.T.astype(np.int32), strict=True))
    if spec.rotate:
        values["matrix"] = turning(draws)
    if spec.erase:
        values["corner"] = np.stack([draws.erase_top, draws.erase_left], 1).astype(np.float32)
        values["extent"] = np.stack([draws.erase_height, draws.erase_width], 1).astype(np.float32)
    if spec.cutout:
        corner = np.stack([draws.cut_top, draws.cut_left], 1)
        values["cut_corner"] = corner.clip(0).astype(np.float32)
        values["cut_extent"] = (spec.cutout + corner.clip(None, 0)).astype(np.float32)
    return {name: np.ascontiguousarray(array) for name, array in values.items()}


def saturating(factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the matrices (B, 3, 3) float32 that blend a pixel's red, green and blue with its grey. factors: (B,).

    DALI's own saturation is not used, as its grey weights differ in the fourth decimal.
    """
    factors = factors[:, None, None]
    return factors * np.eye(3, dtype=np.float32) + (1 - factors) * GREY_WEIGHTS


def turning(draws: Draws) -> NDArray[np.float32]:
    """Return the matrices (B, 2, 3) float32 that map an output position (x, y, 1) to its source position.

    Positions are in pixels, with pixel centres at halves.
    """
    cos, sin = (values / (1 << 24) for values in (draws.cos, draws.sin))
    centre = IMAGE_SIZE / 2
    x = np.stack([cos, -sin, centre * (1 - cos + sin)], 1)
    y = np.stack([sin, cos, centre * (1 - sin - cos)], 1)
    return np.stack([x, y], 1).astype(np.float32)


def augmented(image: Node, fed: Fed, spec: Augment, stock: bool = False) -> Node:
    """Augment (32, 32, 3) uint8 to (S, S, 3) float32. fed: the nodes of `arguments`, by name."""
    if spec.crop:
        image = _cropped(image, fed["crop"], spec)
    if spec.flip:
        image = fn.flip(image, horizontal=fed["flip"])
    if spec.jitters and stock:
        factors = {name: fed[name] for name in ("brightness", "contrast", "saturation", "hue")}
        image = fn.color_twist(image, dtype=types.FLOAT, **factors) * PIXEL
    else:
        image = image * PIXEL
        if spec.jitters:
            image = _jittered(image, fed, spec)
    if spec.rotate:
        image = fn.warp_affine(image, matrix=fed["matrix"], interp_type=types.INTERP_NN, fill_value=0)
    image = _normalised(image, spec)
    if spec.size:
        image = _resized(image, *spec.size)
    if spec.erase:
        image = fn.erase(image, anchor=fed["corner"], shape=fed["extent"], axis_names="HW", fill_value=0)
    if spec.cutout:
        image = fn.erase(image, anchor=fed["cut_corner"], shape=fed["cut_extent"], axis_names="HW", fill_value=0)
    return image


def _cropped(image: Node, start: Node, spec: Augment) -> Node:
    """Cut 32 x 32 pixels out of the padded image, from ``start`` on. Reflection is put together from mirrored parts."""
    if spec.crop_fill == REFLECTED:
        pad, last = spec.crop, IMAGE_SIZE - 1
        mirrored = fn.flip(image, horizontal=1)
        image = fn.cat(mirrored[:, last - pad : last], image, mirrored[:, 1 : pad + 1], axis=1)
        mirrored = fn.flip(image, horizontal=0, vertical=1)
        image = fn.cat(mirrored[last - pad : last], image, mirrored[1 : pad + 1], axis=0)
    return fn.slice(
        image, start=start, shape=[IMAGE_SIZE, IMAGE_SIZE], axes=[0, 1], out_of_bounds_policy="pad", fill_values=0
    )


def _jittered(image: Node, fed: Fed, spec: Augment) -> Node:
    """Apply the four parts of the jitter in each sample's order.

    At each step DALI groups the samples by the part that is their next one.
    """
    for step in JITTER_STEPS:
        part = fed[step]
        if part == BRIGHTNESS:
            image = _clamped(image * fed["brightness"])
        elif part == CONTRAST:
            image = _contrasted(image, fed["contrast"])
        elif part == SATURATION:
            image = _clamped(fn.coord_transform(image, M=fed["saturation"]))
        else:
            image = _hue_turned(image, fed["hue"])
    return image


def _clamped(values: Node) -> Node:
    return math.min(math.max(values, 0.0), 1.0)  # takes half the time of DALI's math.clamp


def _contrasted(image: Node, factor: Node) -> Node:
    """Blend the image with its mean grey. DALI's own contrast blends with mid-grey."""
    mean = fn.reductions.sum(fn.reductions.mean(image, axes=(0, 1)) * GREY_WEIGHTS)
    return _clamped(image * factor + (1.0 - factor) * mean)


def _hue_turned(image: Node, sixths: Node) -> Node:
    """Turn the hue of HSV. sixths: in sixths of a turn, in [-3, 3]. DALI's own hue turns about grey, in YIQ.

    Value and chroma stay the same, and a channel is value - chroma * clamp(2 - d, 0, 1). d is the distance of the hue,
    in sixths of a turn, from the hue where that channel is greatest: 0 there, 3 where that channel is least.
    """
    red, green, blue = (image[:, :, channel : channel + 1] for channel in range(3))
    value = math.max(math.max(red, green), blue)
    chroma = value - math.min(math.min(red, green), blue)
    # Compute 6 * hue * chroma. Its formula depends on the greatest channel, and products with comparisons select it.
    hue = red - green + 4.0 * chroma
    hue = hue + (green == value) * (blue - red + 2.0 * chroma - hue)
    hue = hue + (red == value) * (green - blue - hue)
    hue = hue / math.max(chroma, 1e-30) + sixths  # the numerator of a grey is 0, so its divisor does not matter
    # The distance on a circle of six sixths. Two folds are enough, as turned hues are within one and a half turns.
    apart = math.abs(3.0 - math.abs(3.0 - math.abs(hue + SEXTANTS)))
    return value - chroma * _clamped(2.0 - apart)


def _normalised(image: Node, spec: Augment) -> Node:
    """Normalise the image. This comes before resizing, on fewer pixels, because the resize weights add up to 1."""
    mean, scale = normalisation(spec)
    if not mean.any() and (scale == 1).all():
        return image
    return fn.crop_mirror_normalize(image, mean=list(spec.mean), std=list(spec.std), output_layout="HWC")


def _resized(image: Node, resize: int, crop: int) -> Node:
    """Resize and crop in one step: enlarge only the part of the image that the centre crop keeps."""
    margin = (resize - crop) / 2 * IMAGE_SIZE / resize
    return fn.resize(
        image,
        size=[crop, crop],
        roi_start=[margin, margin],
        roi_end=[IMAGE_SIZE - margin, IMAGE_SIZE - margin],
        interp_type=types.INTERP_LINEAR,
        antialias=False,
    )
