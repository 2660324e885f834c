"""The views of an image whose probabilities are averaged (test-time augmentation), without torch."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from fastcifar.errors import unknown

if TYPE_CHECKING:
    from torch import Tensor

VIEWS: Mapping[str, Sequence[Callable[["Tensor"], "Tensor"]]] = {
    "none": (lambda images: images,),
    "flip": (lambda images: images, lambda images: images.flip(3)),
}
"""The views of a batch (B, 3, S, S), by the value of --tta."""


def check_tta(tta: str) -> None:
    """Raise UsageError for a value that --tta does not take."""
    if tta not in VIEWS:
        raise unknown("--tta", tta, VIEWS)
