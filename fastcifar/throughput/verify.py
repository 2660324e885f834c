"""Verify a contestant's batches.

Pixels are compared with ``kernels/reference`` under the same random numbers, labels and ids with the dataset.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fastcifar.augment import draw
from fastcifar.kernels import reference
from fastcifar.pipeline import Batch, Request
from fastcifar.testing.images import ROUNDING as ROUNDING

GREY_LEVEL = 1 / 255
"""Difference of a pixel value before normalising that an image stored in bytes cannot show: one step of a byte."""
FAR_SHARE = 0.01
"""Share of the values of a pipeline that declares a difference (`Pipeline.differs`) that may be further off than a grey
level. With a larger share, the pipeline does other work and is not verified."""
COMPARED = 128  # images to compare of a batch, evenly spaced: the reference would need longer than a turn for all
CHUNK_VALUES = 1 << 20  # pixel values for the reference at once, as it needs many times their memory


@dataclass
class Verification:
    """The result of the checks so far."""

    images: int = 0
    """The number of images whose pixels were compared."""
    values: int = 0
    """The number of compared values: pixels times channels."""
    apart: int = 0
    """The number of values that differ from the reference's by more than rounding."""
    far: int = 0
    """The number of values that differ from the reference's by more than a grey level."""
    max_abs_dev: float = 0.0
    """The largest absolute difference from the reference, after normalising."""
    fault: str | None = None
    """The first error for which no tolerance exists, such as a wrong label; None: no such error."""

    def add(self, other: "Verification") -> None:
        """Add the result of another check."""
        self.images, self.values = self.images + other.images, self.values + other.values
        self.apart, self.far = self.apart + other.apart, self.far + other.far
        self.max_abs_dev = max(self.max_abs_dev, other.max_abs_dev)
        self.fault = self.fault or other.fault

    def why_not(self, differs: str) -> str | None:
        """Return why the batches are not verified, or None where they are.

        differs: `Pipeline.differs`, which is "" for an exact pipeline.
        """
        if self.fault or not self.images:
            return self.fault or "no batch was compared"
        if self.apart and not differs:
            return (
                f"{self.apart / self.values:.2%} of its pixel values are not the reference's, "
                f"by up to {self.max_abs_dev:.3g}, though the pipeline declares no difference"
            )
        if self.far > FAR_SHARE * self.values:
            return f"{self.far / self.values:.0%} of its pixel values are over a grey level off: {differs}"
        return None


def check_pixels(batch: Batch, request: Request, epoch: int) -> Verification:
    """Compare images of a batch of ``epoch`` with the reference's, in one thread.

    On a busy machine, several threads wait for each other at every small operation and take fifty times as long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _compared(batch, request, epoch)
    finally:
        torch.set_num_threads(threads)


def _compared(batch: Batch, request: Request, epoch: int) -> Verification:
    images, rows = batch.images, batch.ids.cpu().numpy()
    size = request.augment.out_size
    wanted = (len(rows), 3, size, size), request.dtype, request.device.type
    if (tuple(images.shape), images.dtype, images.device.type) != wanted:
        return Verification(fault=f"images are {tuple(images.shape)} {images.dtype} on {images.device}, not {wanted}")
    if not images.is_contiguous(memory_format=torch.channels_last):
        return Verification(fault="images are not channels_last")
    check = Verification()
    source = request.dataset.images(request.dataset.part(request.split))
    scale = torch.from_numpy(reference.normalisation(request.augment)[1]).view(3, 1, 1)
    step, chunk = -(-len(rows) // COMPARED), max(1, CHUNK_VALUES // (3 * size * size))
    for start in range(0, len(rows), chunk * step):
        here = slice(start, start + chunk * step, step)
        draws = draw(request.augment, request.seed, epoch, rows[here])
        expected = reference.apply(torch.from_numpy(source[rows[here]]), draws, request.augment, request.dtype).float()
        apart = (images[here].cpu().float() - expected).abs()
        if not bool(apart.isfinite().all()):
            return Verification(fault="pixels are not finite")
        unit = torch.finfo(request.dtype).eps * expected.abs()
        check.add(
            Verification(
                images=len(apart),
                values=apart.numel(),
                apart=int((apart > ROUNDING * scale + unit).sum()),
                far=int((apart > GREY_LEVEL * scale + unit).sum()),
                max_abs_dev=float(apart.max()),
            )
        )
    return check


def check_samples(batches: Sequence[Batch], request: Request, whole: bool) -> Verification:
    """Verify ids and labels of the successive batches of one epoch, from its beginning.

    whole: whether the batches reach the end of the epoch. The images of the batches are not used.
    """
    if not batches:
        return Verification(fault="an epoch has no batch")
    ids = torch.cat([batch.ids for batch in batches]).cpu().numpy()
    labels = torch.cat([batch.labels for batch in batches]).cpu().numpy()
    sizes = {len(batch.ids) for batch in batches[: -1 if whole else None]}
    known = request.dataset.labels(request.dataset.part(request.split))
    missing = len(request.ids) - len(np.unique(ids))
    if len(np.unique(ids)) != len(ids):
        return Verification(fault="an epoch has a sample twice")
    if not np.isin(ids, request.ids).all():
        return Verification(fault="an epoch has samples that are not of its split")
    if sizes - {request.batch_size}:
        return Verification(fault=f"batches have {sorted(sizes)} images instead of {request.batch_size}")
    if whole and missing:
        return Verification(fault=f"an epoch left out {missing} of {len(request.ids)} samples")
    if known is not None and not np.array_equal(labels, known[ids]):
        return Verification(fault=f"{(labels != known[ids]).mean():.1%} of the labels are wrong")
    return Verification()


def as_row(check: Verification, differs: str, reason: str | None) -> dict[str, Any]:
    """Return the part of a row on the verification and on the pixels' distance from the reference's."""
    compared = check.images > 0
    return {
        "verified": compared and reason is None,
        "reason": reason,
        "images_checked": check.images,
        "max_abs_dev": check.max_abs_dev if compared and math.isfinite(check.max_abs_dev) else None,
        "pixels_apart": check.apart / check.values if compared else None,
        "differs": differs or None,
    }
