"""Class folders: ``train/<class>/*.png``, with or without ``val/`` and ``test/`` like it, or just ``<class>/*.png``.

The folder of the validation images may be called val, valid or validation. `layout` says where each image belongs.
"""

import re
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from fastcifar.data.sources.files import Files
from fastcifar.data.sources.images import Fit, decode_chunks
from fastcifar.data.sources.layout import LAYOUT, VALIDATION, layout
from fastcifar.data.sources.source import CIFAR10, MAX_CLASSES, Chunk, Source
from fastcifar.errors import FastcifarError, unknown
from fastcifar.show.text import counted, quoted

FOLDERS = {"train": ("train", *VALIDATION), "test": ("test",)}  # the folders of each part, in the order of its rows
MAX_NAME = 255  # bytes of a class name, as of a file name on Linux
FILE_LIMIT = 64 << 20  # bytes; a photo may be resized


class ClassFolders(Source):
    """A source of class folders. CIFAR's ten classes keep CIFAR's order; other classes are sorted by name.

    Rows are sorted by class, then by file name in natural order (2.png before 10.png), whatever the archive's order.
    Validation images follow the other train images. resize, mode ("rgb"): see `Fit`.
    """

    options = frozenset({"resize", "mode"})
    kind = "class folders of images"

    def __init__(self, files: Files, resize: bool = False, mode: str | None = None) -> None:
        if mode not in (None, "rgb"):
            raise unknown("--mode", mode, ["rgb"])
        self._files, self._fit = files, Fit(resize, mode == "rgb")
        self.name = f"class folders of {files.title}"
        images, self._notes = layout(files)
        self.classes = _classes(files, images)
        label = {name: index for index, name in enumerate(self.classes)}
        # {part: {member name: (row, label)}}
        self._places: dict[str, dict[str, tuple[int, int]]] = {}
        for part, folders in FOLDERS.items():
            order = [place for folder in folders for place in _in_order(images.get(folder, {}), label)]
            if order:
                self._places[part] = {member: (row, index) for row, (index, member) in enumerate(order)}
        self.counts = {part: len(places) for part, places in self._places.items()}
        if len(images["train"]) < self.counts["train"]:
            self.split = np.ones(self.counts["train"], np.uint8)
            self.split[: len(images["train"])] = 0

    def chunks(self, part: str) -> Iterator[Chunk]:
        places = self._places[part]
        labels = np.array([label for _, label in places.values()], np.uint16)  # places are in row order
        contents = self._files.stream(places.keys(), FILE_LIMIT)
        named = ((places[member][0], f"{member!r} in {self._files.name}", content) for member, content in contents)
        for rows, images in decode_chunks(named, self._fit):
            yield Chunk(rows, images, labels[rows])

    def notes(self) -> list[str]:
        done = {
            "resized to 32×32: such pixels are not those of the file": self._fit.resized,
            "converted to RGB": self._fit.converted,
            "turned as the EXIF orientation says": self._fit.turned,
        }
        changed = [f"{counted(n, 'image')} {'was' if n == 1 else 'were'} {what}" for what, n in done.items() if n]
        return changed + self._notes

    def sha256(self) -> str:
        return self._files.sha256()

    def close(self) -> None:
        self._files.close()


def natural(name: str) -> tuple[list[tuple[str, int, str]], str]:
    """Return a sort key that compares runs of digits as numbers; the name itself decides between "1" and "01"."""
    runs = re.findall(r"([^0-9]*)([0-9]*)", name)
    # the longer number is the larger one; Python's int takes no more than 4,300 digits
    return [(text, len(digits), digits) for text, digits in ((text, run.lstrip("0")) for text, run in runs)], name


def _in_order(members: dict[str, str], label: dict[str, int]) -> list[tuple[int, str]]:
    """Return (label, member name), in the order of the rows. members: {member name: class name}."""
    found = [(label[name], member) for member, name in members.items()]
    return sorted(found, key=lambda place: (place[0], natural(place[1])))


def _text(name: str) -> bool:
    """Return whether the name of a class can be written to a manifest, a table or a page."""
    with suppress(UnicodeEncodeError):
        return len(name.encode()) <= MAX_NAME
    return False


def _classes(files: Files, images: dict[str, dict[str, str]]) -> tuple[str, ...]:
    """Return the class names in label order. Raises FastcifarError if a part lacks a class, or a name is unusable."""
    if not images["train"]:
        raise FastcifarError(f"{files.name} has no train/ images; {LAYOUT} is needed")
    if len(held := [part for part in VALIDATION if part in images]) > 1:
        raise FastcifarError(f"{files.name} has {held[0]}/ and {held[1]}/ images; keep one folder of validation images")
    names = set(images["train"].values())
    if strange := sorted(name for name in names.union(*map(dict.values, images.values())) if not _text(name)):
        raise FastcifarError(
            f"{files.name}: the class folder {quoted(strange[0])} has a name that is not UTF-8, or has more than "
            f"{MAX_NAME} bytes; rename the folder"
        )
    if not 2 <= len(names) <= MAX_CLASSES:
        raise FastcifarError(f"{files.name} has {len(names)} class folders; 2 to {MAX_CLASSES:,} are needed")
    for part, members in images.items():
        if other := sorted(names ^ set(members.values())):
            raise FastcifarError(
                f"{files.name}: class {other[0]!r} is not in both train/ and {part}/; both need every class"
            )
    return CIFAR10 if names == set(CIFAR10) else tuple(sorted(names, key=natural))
