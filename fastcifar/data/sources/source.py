"""The interface that ``convert`` uses for every source of images."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastcifar.system.scratch import Scratch

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
Labels = NDArray[np.unsignedinteger[Any]]
"""Labels as they are stored, (N,): uint8 for up to 256 classes, uint16 for more."""

MAX_CLASSES = 65_536  # a label is a uint8 or a uint16
IMAGE_SHAPE = (32, 32, 3)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish",
    "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange",
    "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine",
    "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk",
    "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank",
    "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow_tree", "wolf", "woman", "worm",
)  # fmt: skip


@dataclass(frozen=True)
class Chunk:
    """Some images of a part, in any order.

    rows: (n,) int64, the row of each image in its part. images: (n, 32, 32, 3) uint8. labels: (n,) integers, or None if
    the part has no labels.
    """

    rows: I64
    images: U8
    labels: NDArray[np.integer[Any]] | None


class Source(ABC):
    """A source of labelled images.

    options: the names of the options that the constructor of this kind of source takes. kind: the words for it.
    name: the name for people and for the manifest. classes: the names of the labels. counts: the number of images in
    each of "train" and "test" that the source has. test_ids: (counts["test"],) int64 ids of a test part without labels.
    split: (counts["train"],) uint8, 0 for training and 1 for validation images, where the source has such a split.
    split_seed: the seed of that split; None if it was not drawn. temporary: a folder that is removed with the source.
    """

    options: ClassVar[frozenset[str]] = frozenset()
    kind: ClassVar[str] = "a source of another kind"
    name: str
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    test_ids: I64 | None = None
    split: U8 | None = None
    split_seed: int | None = None
    temporary: Scratch | None = None

    def notes(self) -> list[str]:
        """Return sentences about what was changed or left out, once all images have been read."""
        return []

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
        if self.temporary is not None:
            self.temporary.cleanup()
