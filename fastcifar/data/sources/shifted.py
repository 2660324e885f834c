"""Test images that are unlike the training images: CIFAR-10.1, and CIFAR-10-C and CIFAR-100-C, all of them .npy files.

CIFAR-10.1 (Recht et al., 2018, https://github.com/modestyachts/CIFAR-10.1) has pairs of files
``cifar10.1_v6_data.npy`` and ``cifar10.1_v6_labels.npy``. CIFAR-10-C and CIFAR-100-C (Hendrycks and Dietterich, 2019,
https://zenodo.org/records/2535967) have a file for each corruption, whose fifths are the severities 1 to 5 of the same
test images, and ``labels.npy``.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcifar.data.npy import parsed
from fastcifar.data.sources.files import Files
from fastcifar.data.sources.source import CIFAR10, CIFAR100, I64, IMAGE_SHAPE, U8, Chunk, Source
from fastcifar.errors import FastcifarError, UsageError, unknown

SEVERITIES = 5
FILE_LIMIT = 256 << 20  # bytes; a corruption has 154 MB
VERSION = re.compile(r"(?:.*/)?cifar10\.1_(v[0-9]+)_(data|labels)\.npy")
LABELS = re.compile(r"(.*/)?labels\.npy")


class Shifted(Source):
    """Labelled test images alone, without train images, from .npy files."""

    options = frozenset({"part"})
    _files: Files

    def sha256(self) -> str:
        return self._files.sha256()

    def close(self) -> None:
        self._files.close()

    def _array(self, name: str) -> tuple[NDArray[Any], str]:
        """Return the array of a file, and the name of the file for messages."""
        where = f"{name!r} in {self._files.name}"
        return parsed(self._files.read(name, FILE_LIMIT), where), where

    def _labels(self, name: str, count: int | None = None) -> I64:
        """Return the labels in a file, (count,) int64 in [0, 100). count: the number of images, if it is known."""
        labels, where = self._array(name)
        if labels.ndim != 1 or labels.dtype.kind not in "iu" or count not in (None, len(labels)):
            needed = "integers" if count is None else f"one integer for each of its {count:,} images"
            raise FastcifarError(f"{where} holds {labels.dtype} {labels.shape}; {needed} are needed: fetch it again")
        if labels.min() < 0 or labels.max() >= len(CIFAR100):
            at = int(np.argmax((labels < 0) | (labels >= len(CIFAR100))))
            raise FastcifarError(f"{where}: image {at} has the label {labels[at]}; 0 to 99 are labels")
        return labels.astype(np.int64)

    def _images(self, name: str, count: int) -> U8:
        """Return the images in a file, (count, 32, 32, 3) uint8."""
        images, where = self._array(name)
        if images.dtype != np.uint8 or images.shape != (count, *IMAGE_SHAPE):
            raise FastcifarError(
                f"{where} holds {images.dtype} {images.shape}; uint8 {(count, *IMAGE_SHAPE)} is needed, as there are "
                f"{count:,} labels: fetch it again"
            )
        return images


def looks_like_cifar10_1(names: Sequence[str]) -> bool:
    """Return whether file names belong to CIFAR-10.1, complete or not."""
    return any(VERSION.fullmatch(name) for name in names)


class Cifar10_1(Shifted):
    """CIFAR-10.1. part: the version, "v4" or "v6"; by default the one that is there."""

    kind = "CIFAR-10.1"

    def __init__(self, files: Files, part: str | None = None) -> None:
        found = {match[1]: name for name in files.names if (match := VERSION.fullmatch(name)) and match[2] == "data"}
        if not found:
            raise FastcifarError(f"{files.name} has labels of CIFAR-10.1, but no _data.npy beside them; fetch it again")
        if part is None and len(found) == 1:
            part = next(iter(found))
        if part not in found:
            asked = "has several versions" if part is None else f"has no part {part!r}"
            choices = " or ".join(f"--part {version}" for version in sorted(found))
            raise UsageError(f"{files.name} {asked}; choose {choices}")
        self._files, self._data = files, found[part]
        labels = self._data.replace("_data.npy", "_labels.npy")
        if labels not in files.names:
            raise FastcifarError(f"{files.name} has no {labels} for its {self._data}; fetch it again")
        self.name = f"CIFAR-10.1 {part} in {files.title}"
        self.classes = CIFAR10
        self._answers = self._labels(labels)
        self.counts = {"test": len(self._answers)}

    def chunks(self, part: str) -> Iterator[Chunk]:
        yield Chunk(np.arange(len(self._answers)), self._images(self._data, len(self._answers)), self._answers)


def looks_corrupted(names: Sequence[str]) -> bool:
    """Return whether file names belong to CIFAR-10-C or CIFAR-100-C: labels.npy beside other .npy files."""
    bases = [match[1] or "" for match in map(LABELS.fullmatch, names) if match]
    return len(bases) == 1 and len(_corruptions(names, bases[0])) > 0


def _corruptions(names: Sequence[str], base: str) -> list[str]:
    pattern = re.compile(rf"{re.escape(base)}(?!labels\.)([a-z0-9_]+)\.npy")
    return sorted(match[1] for match in map(pattern.fullmatch, names) if match)


class Corrupted(Shifted):
    """CIFAR-10-C or CIFAR-100-C, which the labels tell apart.

    part: "fog-3" for a corruption in one of the severities 1 to 5, "fog" for all five of them, in this order; several
    parts are joined by commas.
    """

    kind = "CIFAR-10-C or CIFAR-100-C"

    def __init__(self, files: Files, part: str | None = None) -> None:
        self._files = files
        self._base = next(match[1] or "" for match in map(LABELS.fullmatch, files.names) if match)
        known = _corruptions(files.names, self._base)
        if not part:
            raise UsageError(
                f"{files.name} has {len(known)} corruptions ({', '.join(known)}) in {SEVERITIES} severities; "
                f"choose one, such as --part {known[0]}-3, or all of its severities, --part {known[0]}"
            )
        self._chosen = [_choice(text.strip(), known) for text in part.split(",")]
        if len(set(self._chosen)) < len(self._chosen):
            raise UsageError(f"--part {part} names a severity twice; name each once")
        self._answers = self._labels(f"{self._base}labels.npy")
        if len(self._answers) % SEVERITIES:
            raise FastcifarError(
                f"'{self._base}labels.npy' in {files.name} has {len(self._answers):,} labels, which are not "
                f"{SEVERITIES} severities of the same images; fetch it again"
            )
        self.classes = CIFAR10 if self._answers.max() < len(CIFAR10) else CIFAR100
        self.name = f"CIFAR-{len(self.classes)}-C {part} in {files.title}"
        self.counts = {"test": sum(len(self._rows(severity)) for _, severity in self._chosen)}

    def _rows(self, severity: int | None) -> I64:
        """Return the rows of a severity in its file; None: all rows."""
        rows = np.arange(len(self._answers))
        return rows if severity is None else np.split(rows, SEVERITIES)[severity - 1]

    def chunks(self, part: str) -> Iterator[Chunk]:
        start = 0
        for name, severity in self._chosen:
            images, rows = self._images(f"{self._base}{name}.npy", len(self._answers)), self._rows(severity)
            yield Chunk(np.arange(start, start + len(rows)), images[rows], self._answers[rows])
            start += len(rows)


def _choice(text: str, known: Sequence[str]) -> tuple[str, int | None]:
    """Return the corruption and the severity of a part; None for all severities."""
    name, _, severity = text.rpartition("-")
    if text in known:
        return text, None
    if name in known and severity in map(str, range(1, SEVERITIES + 1)):
        return name, int(severity)
    if name in known:
        raise UsageError(f"--part {text}: the severities are 1 to {SEVERITIES}; choose --part {name}-3, for example")
    raise unknown("corruption", text, known)
