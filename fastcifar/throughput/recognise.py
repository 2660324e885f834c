"""Recognise the images of one's own loader in the dataset, whatever mean and std it normalises with.

The loader's random numbers are unknown. So its pixels can be compared only where it changes nothing but the scale of
each channel, which is the work of the recipe ``none``.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastcifar.data.sources.source import IMAGE_SHAPE
from fastcifar.pipeline import Batch, Request
from fastcifar.throughput.verify import COMPARED, GREY_LEVEL, Verification

SOUGHT = 16  # images of a batch to look for in the dataset when the loader gives no ids
CHUNK = 4096  # images of the dataset that are compared at once
TOLERANCE = GREY_LEVEL / 4
"""Tolerance of a pixel value before normalising, in [0, 1], to which two units in the last place are added. Loaders
normalise in low precision, and no two levels of a byte may be taken for each other."""


class Recogniser:
    """The verification of a loader whose order, draws and normalisation are its own."""

    def __init__(self, request: Request) -> None:
        self._request, self._with_ids = request, False
        self._unit = torch.finfo(request.dtype).eps

    def note(self, images: Tensor, with_ids: bool) -> None:
        """Note the dtype of images (B, 3, S, S) before they are converted, and whether ids came with them."""
        self._with_ids = with_ids
        if images.is_floating_point():
            self._unit = max(self._unit, torch.finfo(images.dtype).eps)

    def check(self, seen: Mapping[int, Sequence[Batch]], kept: Batch) -> Verification:
        """Verify the batches ``seen`` of each epoch, without images, and the images of the batch ``kept``.

        The fault of the result says why the batches are not verified.
        """
        fault = self._samples(seen) if self._with_ids else None
        side = tuple(kept.images.shape[2:])
        if fault is None and side != IMAGE_SHAPE[:2]:
            fault = (
                f"its images are {side[0]} x {side[1]}, and those of the dataset {IMAGE_SHAPE[0]} x {IMAGE_SHAPE[1]}"
            )
        if fault is not None:
            return Verification(fault=fault)
        images, labels, ids = (_some(part, COMPARED if self._with_ids else SOUGHT).cpu() for part in kept)
        found = ids.numpy() if self._with_ids else self._found(images)
        check = self._compared(images, found)
        return check if check.fault else self._judged(check, labels, found)

    def _judged(self, check: Verification, labels: Tensor, rows: NDArray[np.int64]) -> Verification:
        """Return the check of images that are those of the dataset, with a fault where something else is wrong."""
        known = self._request.dataset.labels("train")
        if known is not None and not np.array_equal(labels.numpy(), known[rows]):
            check.fault = f"{(labels.numpy() != known[rows]).mean():.1%} of the labels are wrong"
        elif self._request.augment.random:
            check.fault = "it does not augment its images, as the recipe does; compare it with --recipes none"
        return check

    def _samples(self, seen: Mapping[int, Sequence[Batch]]) -> str | None:
        """Return what is wrong with the ids and labels of epochs; None if nothing is."""
        known = self._request.dataset.labels("train")
        count = len(self._request.dataset.images("train"))
        for batches in seen.values():
            ids = torch.cat([batch.ids for batch in batches] or [torch.empty(0, dtype=torch.int64)]).cpu().numpy()
            labels = torch.cat([batch.labels for batch in batches] or [torch.empty(0)]).cpu().numpy()
            if not ((ids >= 0) & (ids < count)).all():
                return f"its ids are not rows of the dataset, in [0, {count})"
            if len(np.unique(ids)) != len(ids):
                return "an epoch has a sample twice"
            if known is not None and not np.array_equal(labels, known[ids]):
                return f"{(labels != known[ids]).mean():.1%} of the labels are wrong"
        return None

    def _found(self, images: Tensor) -> NDArray[np.int64]:
        """Return the rows (n,) of the dataset's images that are most like the given ones, apart from their scale."""
        stored, sought = self._request.dataset.images("train"), _scaled(images.float())
        best, rows = torch.full((len(images),), -1.0), torch.zeros(len(images), dtype=torch.int64)
        for start in range(0, len(stored), CHUNK):
            chunk = torch.from_numpy(stored[start : start + CHUNK].transpose(0, 3, 1, 2).astype(np.float32))
            score, row = (_scaled(chunk) @ sought.T).max(0)
            rows = torch.where(score > best, row + start, rows)
            best = torch.maximum(score, best)
        return rows.numpy()

    def _compared(self, images: Tensor, rows: NDArray[np.int64]) -> Verification:
        """Compare images (n, 3, 32, 32) with rows of the dataset, under the scale of each channel that fits best."""
        stored = self._request.dataset.images("train")[rows].transpose(3, 0, 1, 2).reshape(3, -1) / 255
        got = images.double().numpy().transpose(1, 0, 2, 3).reshape(3, -1)
        if not np.isfinite(got).all():
            return Verification(fault="pixels are not finite")
        centred = stored - stored.mean(1, keepdims=True)
        scale = (centred * got).sum(1, keepdims=True) / np.maximum((centred**2).sum(1, keepdims=True), 1e-12)
        expected = got.mean(1, keepdims=True) + scale * centred
        apart = np.abs(got - expected)
        bound = TOLERANCE * np.abs(scale) + 2 * self._unit * np.abs(expected)
        check = Verification(images=len(rows), values=apart.size, max_abs_dev=float(apart.max()))
        if (apart > bound).any():
            random = self._request.augment.random
            check.fault = (
                "it augments with random numbers of its own, which cannot be compared; a loader that augments nothing "
                "can be, with --recipes none"
                if random
                else f"{(apart > bound).mean():.0%} of its pixel values are not those of the dataset, under no mean "
                "and std; it augments, or reads other images"
            )
        return check


def _some(values: Tensor, count: int) -> Tensor:
    """Return at most ``count`` values, evenly spaced."""
    return values[:: -(-len(values) // count)]


def _scaled(images: Tensor) -> Tensor:
    """Return images (n, 3, 32, 32) as vectors (n, 3072) of length 1, equal for images that differ in scale alone."""
    centred = images - images.mean((2, 3), keepdim=True)
    return torch.nn.functional.normalize(
        (centred / centred.norm(dim=(2, 3), keepdim=True).clamp(min=1e-9)).flatten(1), dim=1
    )
