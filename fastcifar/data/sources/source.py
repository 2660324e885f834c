"""What every source of images looks like to ``convert``."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]

IMAGE_SHAPE = (32, 32, 3)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Chunk:
    """Some images of a part, in any order.

    rows: (n,) int64, where each goes in its part. images: (n, 32, 32, 3) uint8. labels: (n,) uint8, or None where the
    source has none for the part.
    """

    rows: I64
    images: U8
    labels: U8 | None


class Source(ABC):
    """Labelled train images, and test images if there are any, whoever holds them.

    name: what it is, for people and the manifest. classes: the label's meanings. counts: images in "train" and, where
    the source has one, "test". test_ids: the (counts["test"],) ids that stand in for labels in an unlabelled test.
    """

    name: str
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    test_ids: I64 | None = None

    @abstractmethod
    def chunks(self, part: str) -> Iterator[Chunk]:
        """Every image of "train" or "test" once, in bounded memory. Raises FastcifarError naming a file at fault."""

    def sha256(self) -> str:
        """The hash of what the images are made from; a generator's is that of its name and parameters."""
        return hashlib.sha256(self.name.encode()).hexdigest()

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Let go of files."""

    def __enter__(self) -> "Source":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
