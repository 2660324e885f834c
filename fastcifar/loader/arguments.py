"""The arguments of the loader, which may be strings or objects."""

import operator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastcifar.augment import Augment
from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError, unknown
from fastcifar.pipeline import Request
from fastcifar.recipes import RECIPES, recipe
from fastcifar.rng.philox import Stream, words

MOST_SEED = (1 << 64) - 1
MOST_EPOCHS = (1 << 32) - 1  # an epoch is one 32-bit word of a random number's counter
MOST_IMAGES, MOST_VIEWS, MOST_WORKERS = 1 << 40, 64, 1024
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def whole_number(name: str, value: Any, low: int, high: int) -> int:
    """Return an argument that must be a whole number in [low, high], also as numpy's or torch's. Raises UsageError."""
    try:
        number = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise UsageError(f"{name} {value!r} is not a whole number; give one in [{low}, {high}]")
    if not low <= number <= high:
        raise UsageError(f"{name} {number} is outside [{low}, {high}]; give another one")
    return number


def yes_or_no(name: str, value: Any) -> bool:
    """Return an argument that must be True or False. Raises UsageError."""
    if not isinstance(value, (bool, np.bool_)):
        raise UsageError(f"{name} {value!r} is neither True nor False; give one of them")
    return bool(value)


def dataset_of(dataset: Any) -> Dataset:
    """Return a Dataset, or the dataset of a path. Raises UsageError for anything else."""
    if isinstance(dataset, Dataset):
        return dataset
    if not isinstance(dataset, (str, PathLike)) or not str(dataset):
        raise UsageError(
            f"dataset {dataset!r} is neither a Dataset nor the path of a dataset directory; give one of them"
        )
    return Dataset.open(Path(dataset))


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


def augment_of(augment: Any) -> Augment:
    """Return an Augment, or the Augment of a recipe. Raises UsageError for anything else."""
    if isinstance(augment, str):
        return recipe(augment)
    if not isinstance(augment, Augment):
        raise UsageError(
            f"augment {augment!r} is neither an Augment nor a recipe; the recipes are {', '.join(RECIPES)}, and texts "
            "such as 'flip=0.5,crop=4'"
        )
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
