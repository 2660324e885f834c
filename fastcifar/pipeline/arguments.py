"""Arguments that may be strings or objects, and the checks of numbers and switches."""

import operator
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch

from fastcifar.augment import Augment
from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError, unknown
from fastcifar.recipes import RECIPES, recipe
from fastcifar.system.devices import device_named

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
    return Dataset.open(fspath(dataset))


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


def device_of(device: Any) -> torch.device:
    """Return the device of a name, as `system.devices.device_named` does; a torch.device stays as it is."""
    return device if isinstance(device, torch.device) else device_named(str(device))


OBJECTS = {"augment": augment_of, "device": device_of, "dtype": dtype_of}
"""The functions that make objects of the options of a `Request` that may be strings."""


def with_objects(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a `Request` with objects in place of strings. Raises UsageError for unknown names."""
    return options | {name: read(options[name]) for name, read in OBJECTS.items() if name in options}
