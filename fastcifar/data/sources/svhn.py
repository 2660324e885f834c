"""SVHN's cropped digits (Netzer et al., 2011, http://ufldl.stanford.edu/housenumbers): ``train_32x32.mat`` and
``test_32x32.mat``, with the images X (32, 32, 3, N) uint8 and the labels y (N, 1), in which 10 means the digit 0.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastcifar.data.sources.files import Files, reading
from fastcifar.data.sources.source import I64, IMAGE_SHAPE, U8, Chunk, Source
from fastcifar.errors import FastcifarError

NAME = re.compile(r"(.*/)?(train|test|extra)_32x32\.mat")
FILE_LIMIT = 512 << 20  # bytes; the train images have 182 MB
MOST = 200_000  # images of a file; the train part has 73,257
CHUNK = 10_000  # images in a chunk
DIGITS = tuple("0123456789")


def looks_like_svhn(names: Sequence[str]) -> bool:
    """Return whether file names belong to SVHN's cropped digits, complete or not."""
    return any(NAME.fullmatch(name) for name in names)


class Svhn(Source):
    """SVHN's cropped digits: its train part and, if it is there, its test part. extra_32x32.mat is left out."""

    kind = "SVHN's cropped digits"

    def __init__(self, files: Files) -> None:
        self._files = files
        self.name = f"SVHN's cropped digits in {files.title}"
        self.classes = DIGITS
        self._names = {match[2]: name for name in files.names if (match := NAME.fullmatch(name))}
        if "train" not in self._names:
            raise FastcifarError(f"{files.name} has no train_32x32.mat; put it beside {min(self._names.values())}")
        counts = {part: self._count(part) for part in ("train", "test") if part in self._names}
        self.counts: dict[str, int] = counts

    def _content(self, part: str) -> tuple[bytes, str]:
        name = self._names[part]
        return self._files.read(name, FILE_LIMIT), f"{name!r} in {self._files.name}"

    def _count(self, part: str) -> int:
        """Return the number of images of a part, from the headers of its file."""
        from scipy.io import whosmat

        content, where = self._content(part)
        with reading(where), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a name that is there twice is refused below
            listed = whosmat(io.BytesIO(content))
        shapes: dict[str, Any] = {name: (shape, kind) for name, shape, kind in listed}
        (images, kind), (labels, _) = (shapes.get(name, ((), "")) for name in ("X", "y"))
        if len(shapes) < len(listed) or images[:3] != IMAGE_SHAPE or len(images) != 4 or kind != "uint8":
            raise FastcifarError(
                f"{where} holds {', '.join(f'{name} {kind} {shape}' for name, shape, kind in listed) or 'nothing'}; "
                "X uint8 (32, 32, 3, N) and y (N, 1) are needed: fetch it again"
            )
        count = int(images[3])
        if not 0 < count <= MOST or labels not in ((count, 1), (1, count)):
            raise FastcifarError(
                f"{where} holds {count:,} images and labels of shape {labels}; one label for each of 1 to {MOST:,} "
                "images is needed: fetch it again"
            )
        return count

    def chunks(self, part: str) -> Iterator[Chunk]:
        images, labels = self._read(part)
        for start in range(0, len(labels), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(labels)))
            yield Chunk(rows, images[..., rows].transpose(3, 0, 1, 2), labels[rows])

    def _read(self, part: str) -> tuple[U8, I64]:
        """Return the images (32, 32, 3, N) uint8 and the labels (N,) int64 in [0, 10)."""
        from scipy.io import loadmat

        content, where = self._content(part)
        with reading(where):
            found = loadmat(io.BytesIO(content), variable_names=("X", "y"))
            images, labels = found["X"], found["y"].ravel()
        count = self.counts[part]
        if images.shape != (*IMAGE_SHAPE, count) or images.dtype != np.uint8 or labels.shape != (count,):
            raise FastcifarError(f"{where} holds X {images.dtype} {images.shape} and y {labels.shape}; fetch it again")
        if labels.dtype.kind not in "iuf" or not np.isin(labels, range(1, 11)).all():
            wrong = labels if labels.dtype.kind not in "iuf" else labels[~np.isin(labels, range(1, 11))]
            raise FastcifarError(f"{where} has the label {wrong[0]!s:.40}; 1 to 10 are labels: fetch it again")
        return images, labels.astype(np.int64) % 10

    def notes(self) -> list[str]:
        left = self._names.get("extra")
        return [f"{left} was left out: only train_32x32.mat is used for training"] if left else []

    def sha256(self) -> str:
        return self._files.sha256()

    def close(self) -> None:
        self._files.close()
