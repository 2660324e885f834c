"""Batches of a single image, on which BatchNorm may have nothing to normalise: they are refused before training."""

from collections.abc import Iterable
from functools import lru_cache

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.models.build import build
from fastcifar.models.tuning import ready
from fastcifar.rng.generators import seeded
from fastcifar.runs.spec import RunSpec
from fastcifar.system.launch import processes
from fastcifar.training.memory import BATCH_NORM

REFUSED = "more than 1 value per channel"  # a part of torch's message for a single value to normalise


def check_single_images(specs: Iterable[RunSpec], dataset: Dataset) -> None:
    """Raise UsageError where a batch of a run has a single image, in a process, and its network cannot train on it.

    BatchNorm in training mode needs two values of each channel, and the small images of a deep layer may have one. A
    network is built, and tried on an image, only where there is such a batch.
    """
    images, sharing = len(dataset.ids("training")), processes()
    for spec in dict.fromkeys(spec.with_seed(0) for spec in specs):
        size = spec.batch_size
        if smallest(images, size, sharing) > 1 or not _needs_two(spec, len(dataset.classes)):
            continue
        better = next((n for n in _nearest(size) if n % sharing == 0 and smallest(images, n, sharing) > 1), None)
        which = "the last batch" if size > sharing else "each batch"
        raise UsageError(
            f"batch_size {size}: {which} of the {images:,} training images has a single image"
            + (f" in one of the {sharing} processes" if sharing > 1 else "")
            + f", and {spec.model} has BatchNorm layers that need two; "
            + (f"choose another size, such as --set batch_size={better}" if better else "convert more images")
        )


def smallest(images: int, batch_size: int, sharing: int = 1) -> int:
    """Return the images of the smallest batch of an epoch in a process. sharing: the processes that share a batch.

    A process without an image of its own in the last batch repeats an image of another one: see `Request.repeats`.
    """
    rest = images % batch_size
    return max(1, rest // sharing) if rest else batch_size // sharing


def _nearest(size: int) -> Iterable[int]:
    """Yield the batch sizes up to twice a size, the nearest first; of two that are equally near, the larger one."""
    return sorted(range(2, 2 * size + 3), key=lambda n: (abs(n - size), -n))


def _needs_two(spec: RunSpec, classes: int) -> bool:
    side = PROTOCOLS[spec.protocol].recipe(spec.recipe).out_size
    return _fails_on_one(spec.model, spec.code, spec.fine_tuned, spec.tune, spec.dropout, side, classes)


@lru_cache(maxsize=64)
def _fails_on_one(name: str, code: str, new_head: bool, tune: str, dropout: float, side: int, classes: int) -> bool:
    """Return whether a network, in the mode in which it trains, fails on a batch of one image for its BatchNorm."""
    model = build(name, classes, dropout, 0, code, new_head)
    ready(model, tune)
    if not any(isinstance(module, BATCH_NORM) and module.training for module in model.modules()):
        return False
    with seeded(0, 0), torch.no_grad():
        try:
            model(torch.zeros((1, 3, side, side)))
        except Exception as error:  # another error is shown by the training itself, with its reason
            return REFUSED in str(error)
    return False
