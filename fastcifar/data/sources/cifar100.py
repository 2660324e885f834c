"""The original CIFAR-100 archives, python and binary: one file of 50,000 train and one of 10,000 test images.

https://www.cs.toronto.edu/~kriz/cifar.html defines their layout. An image is 3,072 bytes, channel by channel, with a
fine label (one of 100 classes) and a coarse label (one of 20 superclasses). In the binary archive a record is the
coarse label, the fine label and the image.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from fastcifar.data.sources.files import Files
from fastcifar.data.sources.original import IMAGE_BYTES, by_text, images_of, labels_in, planes_in, text
from fastcifar.data.sources.source import U8, Chunk, Source
from fastcifar.data.sources.unpickle import unpickle
from fastcifar.errors import FastcifarError, unknown

COUNTS = MappingProxyType({"train": 50_000, "test": 10_000})
CLASSES = {"fine": 100, "coarse": 20}
RECORD = 2 + IMAGE_BYTES  # bytes in the binary archive
FILE_LIMIT = 256 << 20  # bytes; the train images have 155 MB
CHUNK = 10_000  # images in a chunk
NAME = re.compile(r"(.*/)?(?:(train|test|meta)|(train\.bin|test\.bin|(?:fine|coarse)_label_names\.txt))")


def looks_cifar100(names: Sequence[str]) -> bool:
    """Return whether file names belong to a CIFAR-100 archive, complete or not."""
    found = [match for match in map(NAME.fullmatch, names) if match]
    return any(match[3] for match in found) or len({match[2] for match in found}) >= 2


class Cifar100(Source):
    """A CIFAR-100 archive, with the classes and the row order of the archive.

    labels: "fine" or "coarse". counts: the images of each part, those of COUNTS in every real archive; tests use fewer.
    """

    options = frozenset({"labels"})
    kind = "a CIFAR-100 archive"

    def __init__(self, files: Files, labels: str = "fine", counts: Mapping[str, int] | None = None) -> None:
        if labels not in CLASSES:
            raise unknown("--labels", labels, CLASSES)
        self._files, self._kind, self.counts = files, labels, COUNTS if counts is None else counts
        self.name = f"CIFAR-100 archive {files.title}" + (", coarse labels" if labels == "coarse" else "")
        first = next(match for match in map(NAME.fullmatch, files.names) if match)
        self._base, self._binary = first[1] or "", bool(first[3])
        for name in [self._file("train"), self._file("test"), self._meta]:
            if name not in files.names:
                raise FastcifarError(f"{files.name} has no {name}; fetch the archive again")
        self.classes = self._read_classes()

    def _file(self, part: str) -> str:
        return f"{self._base}{part}{'.bin' if self._binary else ''}"

    @property
    def _meta(self) -> str:
        return self._base + (f"{self._kind}_label_names.txt" if self._binary else "meta")

    def _read_classes(self) -> tuple[str, ...]:
        content, where = self._files.read(self._meta, FILE_LIMIT), f"{self._meta!r} in {self._files.name}"
        if self._binary:
            names: Any = content.decode("utf-8", "replace").split()
        else:
            names = by_text(unpickle(content, where), where).get(f"{self._kind}_label_names")
            names = [text(item) for item in names] if isinstance(names, list) else []
        plain = [name for name in names if isinstance(name, str) and re.fullmatch(r"[a-z0-9_-]{1,40}", name)]
        needed = CLASSES[self._kind]
        if len(names) != needed or len(set(plain)) != needed:
            raise FastcifarError(
                f"{where} names {len(set(plain))} {self._kind} classes; CIFAR-100 has {needed}: fetch the archive again"
            )
        return tuple(plain)

    def chunks(self, part: str) -> Iterator[Chunk]:
        name = self._file(part)
        content, where = self._files.read(name, FILE_LIMIT), f"{name!r} in {self._files.name}"
        planes, labels = (self._read_binary if self._binary else self._read_python)(content, where, self.counts[part])
        for start in range(0, len(planes), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(planes)))
            yield Chunk(rows, images_of(planes[rows]), labels[rows])

    def _read_python(self, content: bytes, where: str, count: int) -> tuple[U8, U8]:
        batch = by_text(unpickle(content, where), where)
        key = f"{self._kind}_labels"
        return planes_in(batch, count, where), labels_in(batch, key, count, CLASSES[self._kind], where)

    def _read_binary(self, content: bytes, where: str, count: int) -> tuple[U8, U8]:
        if len(content) != count * RECORD:
            raise FastcifarError(
                f"{where} has {len(content):,} bytes; {count:,} images of {RECORD:,} bytes, which is "
                f"{count * RECORD:,}, are needed: fetch the archive again"
            )
        records = np.frombuffer(content, np.uint8).reshape(count, RECORD)
        labels = records[:, 1 if self._kind == "fine" else 0]
        if labels.max() >= CLASSES[self._kind]:
            raise FastcifarError(
                f"{where}: image {labels.argmax()} has the {self._kind} label {labels.max()}; "
                f"0 to {CLASSES[self._kind] - 1} are labels"
            )
        return records[:, 2:], labels

    def sha256(self) -> str:
        return self._files.sha256()

    def close(self) -> None:
        self._files.close()
