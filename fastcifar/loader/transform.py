"""Other people's transforms on batches, with random numbers that repeat."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastcifar.errors import UsageError
from fastcifar.rng.generators import seeded
from fastcifar.rng.philox import Stream, words

Transform = Callable[..., Any]
LABELS = ("labels", "label", "targets", "target", "y")


class Seeded:
    """A callable on batches, and the seed of its random numbers."""

    def __init__(self, function: Any, seed: int) -> None:
        """Raises UsageError for something that cannot be called with the images, or with the images and the labels."""
        if not callable(function):
            raise UsageError(f"transform {function!r} cannot be called; give a function of the images")
        self._function, self._seed, self._takes_labels = function, seed, takes_labels(function)

    def __call__(self, views: list[Tensor], labels: Tensor, place: tuple[int, int, int]) -> tuple[list[Tensor], Tensor]:
        """Return the changed views and the labels. place: the numbers of the epoch, the batch and the process.

        A transform of images and labels changes each view with the original labels; the first view's labels are kept.
        """
        made, answers = [], labels
        epoch, batch, rank = place
        high, low, numpy_seed, _ = (int(word) for word in words(self._seed, Stream.TRANSFORM, batch, epoch, rank))
        with seeded(high << 32 | low, numpy_seed, views[0].device):
            for view, images in enumerate(views):
                changed, changed_labels = self._changed(images, labels)
                answers = changed_labels if view == 0 else answers
                made.append(changed)
        return made, answers

    def _changed(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the transform makes of a view. Raises UsageError where it makes no batch of it."""
        result = self._function(images, labels) if self._takes_labels else self._function(images)
        wanted = "the images and the labels" if self._takes_labels else "the images"
        pair = result if self._takes_labels else (result, labels)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(part, Tensor) for part in pair):
            raise UsageError(f"the transform returns {type(result).__name__}; return {wanted}, as torch tensors")
        if not pair[0].dim() or not pair[1].dim() or not len(pair[0]) == len(pair[1]) == len(labels):
            raise UsageError(
                f"the transform makes {tuple(pair[0].shape)} images and {tuple(pair[1].shape)} labels of {len(labels)} "
                "samples; return as many as it is given"
            )
        if pair[0].dim() == 4:
            return pair[0].contiguous(memory_format=torch.channels_last), pair[1]
        return pair[0], pair[1]


def takes_labels(function: Transform) -> bool:
    """Return whether a transform is called with images and labels: it has two arguments, or is torchvision's.

    A second argument with a default value counts if its name is that of labels. Raises UsageError for other arguments.
    """
    call = function.forward if isinstance(function, torch.nn.Module) else function
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):  # a compiled function without a signature
        return False
    places = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    needed = sum(each.default is each.empty for each in places)
    several = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    unnamed = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY and each.default is each.empty]
    if needed > 2 or unnamed or not (places or several):
        raise UsageError(
            f"transform {function!r:.60} takes {inspect.signature(call)}; it must take the images, or the images and "
            "the labels"
        )
    if not places:
        return type(function).__module__.startswith("torchvision.")
    return needed == 2 or (len(places) > 1 and places[1].name in LABELS)
