"""The original CIFAR-10 archives, python and binary: five train batches and one test batch, each of 10,000 images.

https://www.cs.toronto.edu/~kriz/cifar.html defines their layout: an image is 3,072 bytes, channel by channel.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastcifar.data.sources.files import Files
from fastcifar.data.sources.source import CIFAR10, IMAGE_SHAPE, U8, Chunk, Source
from fastcifar.data.sources.unpickle import unpickle
from fastcifar.errors import FastcifarError
from fastcifar.show.text import quoted

BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
BATCH_IMAGES = 10_000
IMAGE_BYTES = 3072
BATCH_LIMIT = 64 << 20  # bytes; a batch has 31 MB
NAME = re.compile(r"(.*/)?(?:data_batch_[0-9]+|test_batch)(\.bin)?")


def looks_original(names: Sequence[str]) -> bool:
    """Return whether file names belong to an original archive, complete or not."""
    return any(NAME.fullmatch(name) for name in names)


class Original(Source):
    """An original archive; its rows are in the order of the batches.

    batch_images: the images of a batch, 10,000 in every real archive; tests use fewer.
    """

    kind = "an original CIFAR-10 archive"

    def __init__(self, files: Files, batch_images: int = BATCH_IMAGES) -> None:
        self._files, self._size = files, batch_images
        self.name = f"original archive {files.title}"
        self.classes = CIFAR10
        first = next(match for match in map(NAME.fullmatch, files.names) if match)
        self._base, self._suffix = first[1] or "", first[2] or ""
        for name in [*BATCHES["train"], *BATCHES["test"]]:
            if self._base + name + self._suffix not in files.names:
                raise FastcifarError(f"{files.name} has no {self._base}{name}{self._suffix}; fetch the archive again")
        self._check_classes()
        self.counts = {part: len(names) * batch_images for part, names in BATCHES.items()}

    def chunks(self, part: str) -> Iterator[Chunk]:
        order = [self._base + name + self._suffix for name in BATCHES[part]]
        for name, content in self._files.stream(order, BATCH_LIMIT):
            where = f"{name!r} in {self._files.name}"
            planes, labels = self._read_binary(content, where) if self._suffix else self._read_python(content, where)
            rows = np.arange(self._size) + order.index(name) * self._size
            if labels.max() >= len(CIFAR10):
                raise FastcifarError(
                    f"{where}: image {labels.argmax()} has the label {labels.max()}; 0 to 9 are labels"
                )
            yield Chunk(rows, images_of(planes), labels)

    def sha256(self) -> str:
        return self._files.sha256()

    def close(self) -> None:
        self._files.close()

    def _read_binary(self, content: bytes, where: str) -> tuple[U8, U8]:
        """Return the planes (n, 3072) uint8 and labels (n,) uint8 of a binary batch. where: its name for messages."""
        if len(content) != self._size * (1 + IMAGE_BYTES):
            raise FastcifarError(
                f"{where} has {len(content):,} bytes; {self._size:,} images of {1 + IMAGE_BYTES:,} bytes, which is "
                f"{self._size * (1 + IMAGE_BYTES):,}, are needed: fetch the archive again"
            )
        records = np.frombuffer(content, np.uint8).reshape(self._size, 1 + IMAGE_BYTES)
        return records[:, 1:], records[:, 0]

    def _read_python(self, content: bytes, where: str) -> tuple[U8, U8]:
        """Return the planes (n, 3072) uint8 and labels (n,) uint8 of a python batch. where: its name for messages."""
        batch = by_text(unpickle(content, where), where)
        return planes_in(batch, self._size, where), labels_in(batch, "labels", self._size, len(CIFAR10), where)

    def _check_classes(self) -> None:
        """Raise FastcifarError if the archive lists other classes than CIFAR-10's."""
        name = self._base + ("batches.meta.txt" if self._suffix else "batches.meta")
        if name not in self._files.names:
            return
        where = f"{name!r} in {self._files.name}"
        content = self._files.read(name, BATCH_LIMIT)
        if self._suffix:
            named: Any = content.decode("utf-8", "replace").split()
        else:
            named = by_text(unpickle(content, where), where).get("label_names")
            named = [text(item) for item in named] if isinstance(named, list) else named
        if named != list(CIFAR10):
            raise FastcifarError(
                f"{where} names the classes {quoted(named, 200)}; CIFAR-10's are {', '.join(CIFAR10)}: "
                "fetch the archive again"
            )


def images_of(planes: U8) -> U8:
    """Return images (n, 32, 32, 3) uint8 of planes (n, 3072) uint8, channel by channel."""
    height, width, channels = IMAGE_SHAPE
    return planes.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)


def planes_in(batch: dict[Any, Any], count: int, where: str) -> U8:
    """Return the planes (count, 3072) uint8 of an unpickled batch. where: its name for messages."""
    planes = batch.get("data")
    if not isinstance(planes, np.ndarray) or planes.shape != (count, IMAGE_BYTES):
        kind = f"shape {planes.shape}" if isinstance(planes, np.ndarray) else type(planes).__name__
        raise FastcifarError(f"{where}: data has {kind}; ({count}, {IMAGE_BYTES}) is needed")
    return planes


def labels_in(batch: dict[Any, Any], key: str, count: int, classes: int, where: str) -> U8:
    """Return the labels (count,) uint8 of an unpickled batch: its ``key``, a list. where: its name for messages."""
    labels = batch.get(key)
    if not isinstance(labels, list) or len(labels) != count:
        kind = f"{len(labels):,} items" if isinstance(labels, list) else type(labels).__name__
        raise FastcifarError(f"{where}: {key} has {kind}; a list of {count:,} is needed")
    for index, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < classes:
            raise FastcifarError(f"{where}: image {index} has the label {quoted(label)}; 0 to {classes - 1} are labels")
    return np.array(labels, np.uint8)


def text(item: Any) -> Any:
    """Return Python 2's text as str, and anything else as it is."""
    return item.decode("latin1") if isinstance(item, bytes) else item


def by_text(batch: Any, where: str) -> dict[Any, Any]:
    """Return the dictionary with str keys, because Python 2 wrote them as bytes."""
    if not isinstance(batch, dict):
        raise FastcifarError(f"{where} holds a {type(batch).__name__}; a CIFAR batch is a dictionary")
    return {text(key): value for key, value in batch.items()}
