"""Other people's transforms on batches, with random numbers that repeat."""

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastcifar.rng.philox import Stream, words

Transform = Callable[..., Any]


class Seeded:
    """A callable on batches, and the random numbers that it draws."""

    def __init__(self, function: Transform, seed: int) -> None:
        self._function, self._seed, self._takes_labels = function, seed, takes_labels(function)

    def __call__(self, views: list[Tensor], labels: Tensor, place: tuple[int, int, int]) -> tuple[list[Tensor], Tensor]:
        """Return the changed views and the labels. place: the numbers of the epoch, the batch and the process.

        A transform of images and labels changes each view with the original labels; the first view's labels are kept.
        """
        made, answers = [], labels
        with _seeded(self._seed, place, views[0].device):
            for view, images in enumerate(views):
                result = self._function(images, labels) if self._takes_labels else self._function(images)
                if self._takes_labels:
                    result, changed = result
                    answers = changed if view == 0 else answers
                made.append(result.contiguous(memory_format=torch.channels_last) if result.dim() == 4 else result)
        return made, answers


def takes_labels(function: Transform) -> bool:
    """Return whether a transform is called with images and labels: it has two arguments, or is torchvision's."""
    call = function.forward if isinstance(function, torch.nn.Module) else function
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):  # a compiled function without a signature
        return False
    places = [
        parameter for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    ]  # fmt: skip
    return len(places) == 2 or (not places and type(function).__module__.startswith("torchvision."))


@contextmanager
def _seeded(seed: int, place: tuple[int, int, int], device: torch.device) -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python for a batch, and restore their states at the end."""
    epoch, batch, rank = place
    high, low, legacy, _ = (int(word) for word in words(seed, Stream.TRANSFORM, batch, epoch, rank))
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 # transforms may use it
    on_cuda = device.type == "cuda"
    try:
        with torch.random.fork_rng([device] if on_cuda else []):
            torch.default_generator.manual_seed(high << 32 | low)  # torch.manual_seed would also seed other devices
            if on_cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(high << 32 | low)
            np.random.seed(legacy)  # noqa: NPY002
            random.seed(high << 32 | low)
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
