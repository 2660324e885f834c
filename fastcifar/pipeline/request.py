"""The options of a pipeline (`Request`), and the order and the shares of the samples that follow from them."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from fastcifar.augment import Augment
from fastcifar.data.dataset import Dataset, split_name
from fastcifar.errors import UsageError
from fastcifar.kernels.reference import OUT_DTYPES
from fastcifar.rng.philox import Stream, key_of, shuffled


@dataclass(frozen=True)
class Request:
    """The options of a pipeline. Raises UsageError for options that no pipeline supports."""

    dataset: Dataset
    split: str = "training"
    """training (or train), validation (or val), labelled (both of these) or test."""
    augment: Augment = field(default_factory=Augment)
    batch_size: int = 128
    """The samples of a batch over all processes."""
    seed: int = 0
    """The seed of order and augmentation, in [0, 2**64)."""
    augment_seed: int | None = None
    """The seed of the augmentation alone, in [0, 2**64), for another view of the same samples. None: the same seed."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    shuffle: bool | None = None
    """Whether each epoch has a new order. None: only if the split is training."""
    drop_last: bool = False
    """Whether to leave out the last batch of an epoch when it is short."""
    split_seed: int | None = None
    """The seed to redraw the 4:1 split with. None keeps the dataset's own split."""
    subset: NDArray[np.int64] | None = field(default=None, compare=False)
    """The ids of the split that the pipeline gives, (n,) int64, ascending. None: all of them."""
    shard: tuple[int, int] = (0, 1)
    """(rank, number of processes): the pipeline gives this rank's equal share of every batch."""
    repeats: bool = True
    """Whether a shard without a sample of its own in a short last batch gets the last sample of the batch, which then
    counts nothing (`last_weight`). False: the shard has one batch less, and no sample is repeated."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "split", split_name(self.split))
        key_of(self.seed)
        key_of(self.draw_seed)
        if self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size} must be at least 1")
        if self.batch_size % self.shard[1]:
            raise UsageError(
                f"batch size {self.batch_size} cannot be shared out to {self.shard[1]} processes equally; it is the "
                f"size of all their batches together: choose a multiple of {self.shard[1]}"
            )
        if self.dtype not in OUT_DTYPES:
            raise UsageError(f"dtype {self.dtype} is not one of {', '.join(map(str, OUT_DTYPES))}")

    @property
    def draw_seed(self) -> int:
        """The seed of the augmentation, in [0, 2**64)."""
        return self.seed if self.augment_seed is None else self.augment_seed

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """The ids of the samples, (N,) int64, ascending."""
        return self.dataset.ids(self.split, self.split_seed) if self.subset is None else self.subset

    @property
    def shuffles(self) -> bool:
        """Whether each epoch has a new order."""
        return self.split == "training" if self.shuffle is None else self.shuffle

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the shard's ids, (n,) int64, in the order of ``epoch`` (>= 0); ascending unless shuffled."""
        # A copy, because batches give parts of it to callers, who may change them.
        whole = shuffled(self.ids, self.seed, Stream.ORDER, epoch) if self.shuffles else self.ids.copy()
        return whole if self.places is None else whole[self.places]

    @property
    def samples(self) -> int:
        """The number of the shard's samples in an epoch, including a short last batch."""
        return len(self.ids) if self.places is None else len(self.places)

    @property
    def share(self) -> int:
        """The number of the shard's samples in a full batch."""
        return self.batch_size // self.shard[1]

    @cached_property
    def places(self) -> NDArray[np.int64] | None:
        """The positions of the shard's samples in an epoch's order, (n,) int64; None if the shard has all samples.

        A short last batch may have no sample for a shard: see `repeats`.
        """
        if self.shard == (0, 1):
            return None
        full = len(self.ids) // self.batch_size * self.batch_size
        shared = np.arange(full).reshape(-1, self.shard[1], self.share)[:, self.shard[0]].ravel()
        rest = np.arange(full, len(self.ids))
        mine = self._last_part()
        return np.concatenate([shared, mine if len(mine) or not self.repeats else rest[-1:]])

    @property
    def last_weight(self) -> float:
        """The weight of the shard's mean over a short last batch; 1 if that batch is full.

        With these weights, the mean over the shards is the mean over the batch.
        """
        rest = len(self.ids) % self.batch_size
        return len(self._last_part()) * self.shard[1] / rest if rest else 1.0

    def _last_part(self) -> NDArray[np.int64]:
        """Return the positions of the shard's samples in the short last batch; empty if the shard has none."""
        rest = len(self.ids) % self.batch_size
        return np.array_split(np.arange(len(self.ids) - rest, len(self.ids)), self.shard[1])[self.shard[0]]

    def batches(self) -> int:
        """Return the number of the shard's batches in an epoch."""
        full, rest = divmod(len(self.ids), self.batch_size)
        return full + (rest > 0 and not self.drop_last and (self.repeats or len(self._last_part()) > 0))
