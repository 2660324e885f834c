"""The arguments that only the loader has."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastcifar.errors import UsageError
from fastcifar.pipeline import Request
from fastcifar.pipeline.arguments import whole_number
from fastcifar.rng.philox import Stream, words

MOST_SEED = (1 << 64) - 1
MOST_EPOCHS = (1 << 32) - 1  # an epoch is one 32-bit word of a random number's counter
MOST_IMAGES, MOST_VIEWS, MOST_WORKERS = 1 << 40, 64, 1024


def place_of(rank: Any, world_size: Any) -> tuple[int, int] | None:
    """Return (rank, world_size), or None where neither is given. Raises UsageError for one alone or a wrong number."""
    if rank is None and world_size is None:
        return None
    if rank is None or world_size is None:
        raise UsageError("rank and world_size belong together; give both, or neither for torch.distributed's")
    world_size = whole_number("world_size", world_size, 1, 1 << 20)
    return whole_number("rank", rank, 0, world_size - 1), world_size


def view_seed(seed: int, view: int) -> int:
    """Return the seed of the augmentation of a view >= 1, in [0, 2**64), as a function of the loader's seed."""
    high, low, _, _ = (int(word) for word in words(seed, Stream.VIEWS, view))
    return high << 32 | low


def subset_of(ids: Any, whole: Request) -> NDArray[np.int64]:
    """Return ids as (n,) int64, ascending. Raises UsageError for ids that are not of the split, or given twice."""
    chosen = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
    if chosen.dtype == bool:
        raise UsageError("ids are True or False; give the rows themselves, as numpy.flatnonzero(mask) does")
    if chosen.ndim != 1 or not len(chosen) or chosen.dtype.kind not in "iu":
        raise UsageError(f"ids are {chosen.dtype} of shape {chosen.shape}; give at least one whole number, in one list")
    chosen = np.sort(chosen.astype(np.int64))
    twice = chosen[1:][chosen[1:] == chosen[:-1]]
    if len(twice):
        raise UsageError(f"ids have {twice[0]} twice; give each sample once")
    stray = np.setdiff1d(chosen, whole.ids)
    if len(stray):
        raise UsageError(
            f"ids have {len(stray):,} numbers, such as {stray[0]}, that are not samples of the {whole.split} split; "
            f'choose from its {len(whole.ids):,} ids: dataset.ids("{whole.split}")'
        )
    return chosen
