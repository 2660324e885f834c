"""Whether a contestant's batches are what was asked: pixels against ``kernels/reference`` with the same draws, labels
and ids against the dataset.
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

ROUNDING = 8e-6
"""of a pixel before normalising: what float32 arithmetic in another order comes to, torchvision's enlargement being
the furthest off (tests/kernels/test_reference.py, RESIZED); one unit in the last place of the dtype is added to it"""
GREY_LEVEL = 1 / 255
"""of a pixel before normalising: what an image stored in bytes cannot show"""
FAR_SHARE = 0.01
"""of the values of a pipeline that differs may be further off than a grey level; with more it is other work"""
COMPARED = 128  # images of a batch, at even distances: the reference takes longer for them than a turn does
CHUNK_VALUES = 1 << 20  # given to the reference at once: it needs many times their memory


@dataclass
class Verification:
    """What was found so far."""

    images: int = 0
    """whose pixels were compared"""
    values: int = 0
    """of their pixels' channels"""
    apart: int = 0
    """values that are not the reference's to the dtype's rounding"""
    far: int = 0
    """values that are more than a grey level from the reference's"""
    max_abs_dev: float = 0.0
    fault: str | None = None
    """the first thing that is plainly wrong"""

    def add(self, other: "Verification") -> None:
        """Count what another check found, too."""
        self.images, self.values = self.images + other.images, self.values + other.values
        self.apart, self.far = self.apart + other.apart, self.far + other.far
        self.max_abs_dev = max(self.max_abs_dev, other.max_abs_dev)
        self.fault = self.fault or other.fault

    def why_not(self, differs: str) -> str | None:
        """Why these pixels are not verified; None where they are. differs: `Pipeline.differs`, "" for an exact one."""
        if self.fault or not self.images:
            return self.fault or "no batch was compared"
        if self.apart and not differs:
            return (
                f"{self.apart / self.values:.2%} of its pixel values are not the reference's, "
                f"by up to {self.max_abs_dev:.3g}, though it says that they are"
            )
        if self.far > FAR_SHARE * self.values:
            return f"{self.far / self.values:.0%} of its pixel values are over a grey level off: {differs}"
        return None


def check_pixels(batch: Batch, request: Request, epoch: int) -> Verification:
    """Compare images of a batch of ``epoch`` with the reference's, in one thread: on a machine that is busy with
    something else, threads that wait for each other at every small operation take fifty times as long.
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
    """Verification ids and labels of successive batches of one epoch, from its beginning; whole: until its end.

    The batches' images are not looked at.
    """
    if not batches:
        return Verification(fault="an epoch gave no batch")
    ids = torch.cat([batch.ids for batch in batches]).cpu().numpy()
    labels = torch.cat([batch.labels for batch in batches]).cpu().numpy()
    sizes = {len(batch.ids) for batch in batches[: -1 if whole else None]}
    known = request.dataset.labels(request.dataset.part(request.split))
    missing = len(request.ids) - len(np.unique(ids))
    if len(np.unique(ids)) != len(ids):
        return Verification(fault="an epoch gave a sample twice")
    if not np.isin(ids, request.ids).all():
        return Verification(fault="an epoch gave samples that are not of its split")
    if sizes - {request.batch_size}:
        return Verification(
            fault=f"batches of {sorted(sizes)} images were given where {request.batch_size} were asked for"
        )
    if whole and missing:
        return Verification(fault=f"an epoch left out {missing} of {len(request.ids)} samples")
    if known is not None and not np.array_equal(labels, known[ids]):
        return Verification(fault=f"{(labels != known[ids]).mean():.1%} of the labels are wrong")
    return Verification()


def as_row(check: Verification, differs: str, reason: str | None) -> dict[str, Any]:
    """The part of a row that says what was verified, and how far the pixels are from the reference's."""
    compared = check.images > 0
    return {
        "verified": compared and reason is None,
        "reason": reason,
        "images_checked": check.images,
        "max_abs_dev": check.max_abs_dev if compared and math.isfinite(check.max_abs_dev) else None,
        "pixels_apart": check.apart / check.values if compared else None,
        "differs": differs or None,
    }
