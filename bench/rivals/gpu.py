"""The contestants among GPU kernels: fastcifar's, torch.compile of the definition, and the batch operations of
torchvision and kornia.

Each makes whole batches from images on the device, gathered by a random order of sample ids. The work differs:

- ``gpu`` also draws the random numbers and gathers the labels.
- ``torch compiled`` gets each sample's draws, already on the device, and makes the same pixels.
- ``torchvision batch`` draws once a batch, on the host, and so changes every image of the batch alike.
- ``kornia`` draws its own numbers for each sample, but one order of the colour parts for a batch.

The pixels of the last two are therefore compared only where a recipe draws nothing. Elsewhere their rows are marked as
other work.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from fastcifar.kernels import gpu, reference
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from bench.rivals import compiled
from bench.rivals.rival import Rival
from fastcifar.augment import IMAGE_SIZE, REFLECTED, Augment, Draws, draw
from fastcifar.recipes import RECIPES
from fastcifar.rng.cursor import clock_of

BASE = "torchvision batch"
BATCHES = {32: 32768, 224: 1024, 384: 512}  # by the side of the result: at least 200 MB, several times a GPU's cache
SETS = 4  # batches that a call makes, each from its own images, and ours into its own memory
COMPARED = 256  # images compared of a batch: few, as the reference runs on the CPU
SEED, EPOCH = 7, 3

BatchOperation = Callable[[Tensor], Tensor]  # (B, 3, 32, 32) float32 in [0, 1] to (B, 3, S, S) float32


def rivals(
    recipe: str, batch: int, dtype: torch.dtype, device: torch.device, compiles: bool = True, sets: int = SETS
) -> tuple[dict[str, Rival], dict[str, str]]:
    """Return the contestants by name, and the reason for each one that is left out, by name.

    compiles: False runs "torch compiled" operation by operation, for a test of its pixels. sets: batches of a call.
    """
    spec, rng = RECIPES[recipe], np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (sets * batch, 32, 32, 3), np.uint8))
    order = rng.permutation(sets * batch)
    draws = draw(spec, SEED, EPOCH, order)
    every = -(-batch // COMPARED)
    last = slice((sets - 1) * batch, None, every)
    expected = reference.apply(images[order[last]], draws[last], spec, dtype)
    there, ids = images.to(device), torch.from_numpy(order).to(device)

    ours = _ours(there, ids, spec, sets, dtype)
    compiled = _compiled(there, ids, draws, spec, dtype, Made(sets, compiles))
    same_work = partial(Rival, len(order), expected=expected, std=min(spec.std), every=every)
    contestants = {
        "gpu": same_work(call=ours, recordable=True),
        "torch compiled": same_work(call=compiled, recordable=True),
    }
    for name, operation, differs in (
        (BASE, torchvision_batch(spec), "draws once a batch: all of its images are changed alike"),
        ("kornia", kornia_batch(spec), "its own draws; one order of the colour parts a batch"),
    ):
        if operation is not None:
            call = _batchwise(operation, there, ids, sets, dtype)
            other_work = {"expected": None, "differs": differs} if spec.random else {}
            contestants[name] = same_work(call=call, **other_work)
    return contestants, {} if "kornia" in contestants else {"kornia": "kornia is not installed"}


def _ours(images: Tensor, ids: Tensor, spec: Augment, sets: int, dtype: torch.dtype) -> Callable[[], Tensor]:
    batch, size, device = len(ids) // sets, spec.out_size, images.device
    labels = torch.arange(len(images), device=device) % 10
    clocks = [clock_of(SEED, EPOCH, device, k) for k in range(sets)]
    outs = [
        torch.empty((batch, 3, size, size), dtype=dtype, device=device, memory_format=torch.channels_last)
        for _ in range(sets)
    ]
    out_labels, out_ids = torch.empty((2, batch), dtype=torch.int64, device=device)

    def call() -> Tensor:
        for clock, out in zip(clocks, outs, strict=True):
            gpu.render(images, labels, ids, clock, spec, out, out_labels, out_ids)
        return outs[-1]

    return call


class Made(NamedTuple):
    """How the compiled definition makes its batches: in so many sets, compiled or operation by operation."""

    sets: int
    compiles: bool


def _compiled(
    images: Tensor, ids: Tensor, draws: Draws, spec: Augment, dtype: torch.dtype, made: Made
) -> Callable[[], Tensor]:
    sets, compiles = made
    batch = len(ids) // sets
    parts = [slice(k * batch, (k + 1) * batch) for k in range(sets)]
    rows = [ids[part].clone() for part in parts]
    givens = [compiled.given(draws[part], spec, images.device) for part in parts]

    def one(rows: Tensor, known: compiled.Given) -> Tensor:
        return compiled.apply(images[rows], known, spec, dtype)

    if compiles:
        torch.compiler.reset()  # code compiled for other recipes counts towards a limit
        one = torch.compile(one, fullgraph=True, dynamic=False)

    def call() -> Tensor:
        for row, known in zip(rows, givens, strict=True):
            result = one(row, known)
        return result

    return call


def _batchwise(
    operation: BatchOperation, images: Tensor, ids: Tensor, sets: int, dtype: torch.dtype
) -> Callable[[], Tensor]:
    rows = ids.chunk(sets)

    def call() -> Tensor:
        for row in rows:
            x_BCHW = v2.functional.to_dtype(images[row].permute(0, 3, 1, 2), torch.float32, scale=True)
            result = operation(x_BCHW).to(dtype, memory_format=torch.channels_last)
        return result

    return call


def torchvision_batch(spec: Augment) -> BatchOperation:
    """Return a recipe as torchvision's own transforms, applied to whole batches."""
    steps: list[nn.Module] = [nn.Identity()]  # a recipe may need no transform
    if spec.crop:
        mode = "reflect" if spec.crop_fill == REFLECTED else "constant"
        steps.append(v2.RandomCrop(IMAGE_SIZE, padding=spec.crop, padding_mode=mode))
    if spec.flip:
        steps.append(v2.RandomHorizontalFlip(0.5 if spec.alternates else float(spec.flip)))
    if spec.jitters:
        steps.append(v2.ColorJitter(spec.brightness, spec.contrast, spec.saturation, spec.hue))
    if spec.rotate:
        steps.append(v2.RandomRotation(spec.rotate, InterpolationMode.NEAREST))
    if spec.size:
        steps += [v2.Resize(spec.size[0], antialias=True), v2.CenterCrop(spec.size[1])]
    if _normalises(spec):
        steps.append(v2.Normalize(spec.mean, spec.std))
    if spec.erase:
        steps.append(v2.RandomErasing(spec.erase, spec.erase_area, spec.erase_aspect))
    if spec.cutout:
        steps.append(v2.RandomErasing(1.0, (_cut_share(spec),) * 2, (1.0, 1.0)))
    return nn.Sequential(*steps)


def kornia_batch(spec: Augment) -> BatchOperation | None:
    """Return a recipe as kornia's augmentations, which draw for each sample; None where kornia is not installed."""
    try:
        import kornia.augmentation as K
    except ImportError:
        return None
    steps: list[nn.Module] = [nn.Identity()]
    if spec.crop:
        mode = "reflect" if spec.crop_fill == REFLECTED else "constant"
        steps.append(K.RandomCrop((IMAGE_SIZE, IMAGE_SIZE), padding=spec.crop, padding_mode=mode))
    if spec.flip:
        steps.append(K.RandomHorizontalFlip(p=0.5 if spec.alternates else spec.flip))
    if spec.jitters:
        steps.append(K.ColorJitter(spec.brightness, spec.contrast, spec.saturation, spec.hue, p=1.0))
    if spec.rotate:
        steps.append(K.RandomRotation(spec.rotate, resample="nearest", p=1.0))
    if spec.size:
        side, crop = ((length, length) for length in spec.size)
        steps += [K.Resize(side, align_corners=False), K.CenterCrop(crop)]
    if _normalises(spec):
        steps.append(K.Normalize(torch.tensor(spec.mean), torch.tensor(spec.std)))
    if spec.erase:
        steps.append(K.RandomErasing(spec.erase_area, spec.erase_aspect, p=spec.erase))
    if spec.cutout:
        steps.append(K.RandomErasing((_cut_share(spec),) * 2, (1.0, 1.0), p=1.0))
    return nn.Sequential(*steps)


def _cut_share(spec: Augment) -> float:
    """Return the share of the image that a whole cutout square covers, in (0, 1]."""
    return (spec.cutout / spec.out_size) ** 2


def _normalises(spec: Augment) -> bool:
    return any(spec.mean) or set(spec.std) != {1.0}
