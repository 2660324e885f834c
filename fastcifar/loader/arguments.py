"""The arguments of the loader, which may be strings or objects."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastcifar.augment import Augment
from fastcifar.errors import UsageError, unknown
from fastcifar.pipeline import Request
from fastcifar.recipes import recipe
from fastcifar.rng.philox import Stream, words

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def view_seed(seed: int, view: int) -> int:
    """Return the seed of the augmentation of a view >= 1, in [0, 2**64), as a function of the loader's seed."""
    high, low, _, _ = (int(word) for word in words(seed, Stream.VIEWS, view))
    return high << 32 | low


def augment_of(augment: Augment | str) -> Augment:
    """Return an Augment, or the Augment of a recipe. Raises UsageError for anything else."""
    if isinstance(augment, str):
        return recipe(augment)
    if not isinstance(augment, Augment):
        raise UsageError(f"augment {augment!r} is neither an Augment nor a recipe such as 'standard'")
    return augment


def dtype_of(dtype: torch.dtype | str) -> torch.dtype:
    """Return a dtype of pixels by its name, or unchanged. Raises UsageError for an unknown name."""
    if isinstance(dtype, torch.dtype):
        return dtype
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    return DTYPES[name]


def subset_of(ids: Any, whole: Request) -> NDArray[np.int64]:
    """Return ids as (n,) int64, ascending. Raises UsageError for ids that are not of the split, or given twice."""
    chosen = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
    if chosen.ndim != 1 or not len(chosen) or chosen.dtype.kind not in "iu":
        raise UsageError(f"ids are {chosen.dtype} of shape {chosen.shape}; give at least one whole number, in one list")
    chosen = np.sort(chosen.astype(np.int64))
    twice = chosen[1:][chosen[1:] == chosen[:-1]]
    if len(twice):
        raise UsageError(f"ids have {twice[0]} twice; give each sample once")
    stray = np.setdiff1d(chosen, whole.ids)
    if len(stray):
        raise UsageError(f"ids have {stray[0]}, which is not a sample of the {whole.split} split; choose from its ids")
    return chosen
