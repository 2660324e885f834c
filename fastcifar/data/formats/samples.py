"""The samples of a part that each format stores, and their comparison with the samples read back."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError
from fastcifar.show.progress import track

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]


class Samples:
    """The samples of a part, as a sequence for the writers: image, label and id.

    A label is -1 if the part has no labels. The id is the row in the part.
    """

    def __init__(self, dataset: Dataset, part: str) -> None:
        self.images = dataset.images(part)
        labels = dataset.labels(part)
        self.labels: I64 = np.full(len(self.images), -1) if labels is None else labels.astype(np.int64)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[U8, int, int]:
        return self.images[row], int(self.labels[row]), int(row)

    def compare(self, path: Path, rows: I64, batches: Iterable[tuple[U8, I64, I64]]) -> None:
        """Compare batches of (images, labels, ids), read back from ``path``, with the samples of ``rows`` in order.

        images: (n, 32, 32, 3) uint8. labels, ids: (n,) int64. Raises FastcifarError with the first image that differs.
        """
        done = 0
        for images, labels, ids in track(batches, f"reading back {path.name}"):
            wanted = rows[done : done + len(ids)]
            if len(wanted) < len(ids):
                raise FastcifarError(f"{path} reads back with more than its {len(rows):,} images")
            same = (
                (ids == wanted) & (labels == self.labels[wanted]) & (images == self.images[wanted]).all(axis=(1, 2, 3))
            )
            if not same.all():
                raise FastcifarError(f"{path} reads back with image {wanted[np.argmin(same)]} changed; try again")
            done += len(ids)
        if done != len(rows):
            raise FastcifarError(f"{path} reads back with {done:,} of its {len(rows):,} images")
