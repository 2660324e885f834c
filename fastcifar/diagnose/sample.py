"""Parts of a dataset: a sample of each split, a sample of all labelled images, and a dataset with another split."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcifar.data.dataset import HELD_OUT, Dataset
from fastcifar.errors import UsageError
from fastcifar.rng.philox import Stream, shuffled


class Sample(Dataset):
    """A dataset whose splits have at most ``images`` images each, drawn by the seed."""

    def __init__(self, whole: Dataset, images: int, seed: int) -> None:
        """images: the largest number of images of a split. Raises UsageError if it is below 2."""
        super().__init__(whole.path, whole.manifest)
        if images < 2:  # one validation image has no spread
            raise UsageError(f"--images {images} is below 2; give at least 2")
        self._at_most, self._seed = images, seed

    def ids(self, split: str, split_seed: int | None = None) -> NDArray[np.int64]:
        return _drawn(super().ids(split, split_seed), self._at_most, self._seed)

    def __reduce__(self) -> tuple[Any, ...]:
        return Sample, (Dataset(self.path, self.manifest), self._at_most, self._seed)


class Redrawn(Dataset):
    """A dataset whose training and validation images are drawn anew by a seed, 4:1."""

    def __init__(self, whole: Dataset, seed: int) -> None:
        super().__init__(whole.path, whole.manifest, whole._memory)
        self._seed = seed

    def ids(self, split: str, split_seed: int | None = None) -> NDArray[np.int64]:
        return super().ids(split, self._seed if split_seed is None else split_seed)


def pool_of(whole: Dataset, images: int | None, seed: int) -> Dataset:
    """Return a dataset whose 4:1 splits have ``images`` validation images; the whole dataset if it has no more.

    images: None means the whole dataset. A smaller dataset is a copy in memory, whose images the seed draws from all
    labelled images.
    """
    every = whole.ids("labelled")
    if images is None or HELD_OUT * images >= len(every):
        return whole
    rows, labels = _drawn(every, HELD_OUT * images, seed), whole.labels("train")
    assert labels is not None  # the train part of a dataset has labels
    return Dataset.from_arrays(whole.images("train")[rows], labels[rows], whole.classes, name=whole.name)


def _drawn(every: NDArray[np.int64], at_most: int, seed: int) -> NDArray[np.int64]:
    # the order of epoch 0, as training epochs begin with 1
    return np.sort(shuffled(every, seed, Stream.ORDER)[:at_most])
