"""The interface that ``convert`` uses for every source of images."""

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

    rows: (n,) int64, the row of each image in its part. images: (n, 32, 32, 3) uint8. labels: (n,) uint8, or None if
    the part has no labels.
    """

    rows: I64
    images: U8
    labels: U8 | None


class Source(ABC):
    """A source of labelled train images, with or without test images.

    name: the name for people and for the manifest. classes: the names of the labels. counts: the number of images in
    "train" and, if the source has it, "test". test_ids: (counts["test"],) int64 ids of a test part without labels.
    """

    name: str
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    test_ids: I64 | None = None

    @abstractmethod
    def chunks(self, part: str) -> Iterator[Chunk]:
        """Yield every image of "train" or "test" once, in bounded memory.

        Raises FastcifarError with the name of a damaged file.
        """

    def sha256(self) -> str:
        """Return the SHA-256 of the source files; for a generator, of its name with its parameters."""
        return hashlib.sha256(self.name.encode()).hexdigest()

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Close the files."""

    def __enter__(self) -> "Source":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
