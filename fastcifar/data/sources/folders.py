"""Class folders: ``train/<class>/*.png`` with or without ``test/<class>/*``, or just ``<class>/*``."""

import re
from collections.abc import Iterator

import numpy as np

from fastcifar.data.sources.files import Files
from fastcifar.data.sources.images import IMAGE_LIMIT, decode_chunks
from fastcifar.data.sources.source import CIFAR10, Chunk, Source
from fastcifar.errors import FastcifarError

PARTS = ("train", "test")
SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_CLASSES = 256  # a label is a uint8
LAYOUT = "train/<class>/<image>, with or without test/<class>/<image>, or <class>/<image>"


class ClassFolders(Source):
    """A source of class folders. CIFAR's ten classes keep CIFAR's order; other classes are sorted by name.

    Rows are sorted by class, then by file name in natural order (2.png before 10.png), whatever the archive's order.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self.name = f"class folders of {files.title}"
        images = _sorted_into_parts(files)
        self.classes = _classes(files, images)
        label = {name: index for index, name in enumerate(self.classes)}
        # {part: {member name: (row, label)}}
        self._places: dict[str, dict[str, tuple[int, int]]] = {}
        for part, members in images.items():
            order = sorted(members, key=lambda member: (label[members[member]], natural(member)))
            self._places[part] = {member: (row, label[members[member]]) for row, member in enumerate(order)}
        self.counts = {part: len(places) for part, places in self._places.items()}

    def chunks(self, part: str) -> Iterator[Chunk]:
        places = self._places[part]
        labels = np.array([label for _, label in places.values()], np.uint8)  # places are in row order
        contents = self._files.stream(places.keys(), IMAGE_LIMIT)
        named = ((places[member][0], f"{member!r} in {self._files.name}", content) for member, content in contents)
        for rows, images in decode_chunks(named):
            yield Chunk(rows, images, labels[rows])

    def sha256(self) -> str:
        return self._files.sha256()

    def close(self) -> None:
        self._files.close()


def natural(name: str) -> tuple[list[tuple[str, int]], str]:
    """Return a sort key that compares runs of digits as numbers; the name itself decides between "1" and "01"."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", name)], name


def _sorted_into_parts(files: Files) -> dict[str, dict[str, str]]:
    """Return {part: {member name: class name}}, always with "train". Raises FastcifarError for another layout."""
    split = {name: name.split("/") for name in files.names}
    if not split:
        raise FastcifarError(f"{files.name} holds no files; {LAYOUT} is needed")
    tops = {parts[0] for parts in split.values()}
    depth = max(map(len, split.values()))
    wrapped = len(tops) == 1 and tops.isdisjoint(PARTS) and depth > 2
    if wrapped:  # one outer folder, as archive programs often add
        split = {name: parts[1:] for name, parts in split.items()}
        tops = {parts[0] for parts in split.values()}
    with_parts = not tops.isdisjoint(PARTS)
    images: dict[str, dict[str, str]] = {"train": {}}
    for name, parts in split.items():
        part = parts.pop(0) if with_parts else "train"
        if part not in PARTS or len(parts) != 2 or not parts[1].lower().endswith(SUFFIXES):
            raise FastcifarError(f"{files.name} holds {name!r}, which has no place in {LAYOUT} (.png, .jpg); remove it")
        images.setdefault(part, {})[name] = parts[0]
    if not images["train"]:
        raise FastcifarError(f"{files.name} has no train/ images; {LAYOUT} is needed")
    return images


def _classes(files: Files, images: dict[str, dict[str, str]]) -> tuple[str, ...]:
    """Return the class names in label order. Raises FastcifarError if a part lacks a class."""
    names = set(images["train"].values())
    if not 2 <= len(names) <= MAX_CLASSES:
        raise FastcifarError(f"{files.name} has {len(names)} class folders; 2 to {MAX_CLASSES} are needed")
    for part, members in images.items():
        if other := sorted(names ^ set(members.values())):
            raise FastcifarError(
                f"{files.name}: class {other[0]!r} is not in both train/ and {part}/; both need every class"
            )
    return CIFAR10 if names == set(CIFAR10) else tuple(sorted(names, key=natural))
