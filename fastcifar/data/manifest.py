"""The manifest of a dataset directory: how it is made, read and checked."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcifar.data.sources.source import IMAGE_SHAPE, U8
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.version import __version__

MANIFEST = "manifest.json"
CACHE = "cache/features-*.safetensors"
"""The files that training with ``tune=head`` adds to a dataset directory. They can be computed again, so they belong to
no manifest, and `convert` may replace them with the dataset."""
FORMAT = "fastcifar dataset"
VERSIONS = (1, 2)  # 2: there are more than BYTE_CLASSES classes, and the labels are uint16
BYTE_CLASSES = 256  # the most classes whose labels are uint8
ENTRY = {"bytes", "sha256"}  # the keys of each file in the manifest
KEYS = ("classes", "counts", "image_shape", "mean", "std", "source", "split_seed", "files", "sha256", "tools")

Histogram = NDArray[np.int64]  # (3, 256): the number of pixels of each channel with each value


def label_dtype(classes: int) -> np.dtype[Any]:
    """Return the dtype of the labels in the files: uint8 for up to BYTE_CLASSES classes, uint16 for more."""
    return np.dtype(np.uint8 if classes <= BYTE_CLASSES else np.uint16)


def files_in(folder: Path) -> set[str]:
    """Return the relative names of all files in a dataset directory, except the manifest and the files of CACHE."""
    files = [file for file in folder.rglob("*") if not file.is_dir()]
    return {file.relative_to(folder).as_posix() for file in files if not file.match(CACHE)} - {MANIFEST}


def content_hash(files: dict[str, Any], classes: Sequence[str]) -> str:
    """Return one SHA-256 for images, labels, ids, split and classes; other formats do not change it."""
    arrays = {name: entry["sha256"] for name, entry in files.items() if name.endswith(".npy")}
    return hashlib.sha256(json.dumps([sorted(arrays.items()), list(classes)]).encode()).hexdigest()


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the content of a dataset directory's manifest.

    Raises UsageError for a path that is not a dataset directory, FastcifarError for a damaged manifest.
    """
    cure = "make one with: fastcifar convert SRC DEST"
    if not path.exists():
        raise UsageError(f"there is no dataset at {path}; {cure}")
    if not (path / MANIFEST).is_file():
        raise UsageError(f"{path} is not a dataset directory, as it has no {MANIFEST}; {cure}")
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
    except ValueError as error:
        raise UsageError(f"{path / MANIFEST} is not JSON ({error}); {cure}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UsageError(f"{path / MANIFEST} is not a fastcifar dataset's; {cure}")
    if manifest.get("version") not in VERSIONS:
        raise UsageError(
            f"{path} has dataset format version {manifest.get('version')!r}; "
            f"the versions {' and '.join(map(str, VERSIONS))} are read here: {cure}"
        )
    if missing := [key for key in KEYS if key not in manifest]:
        raise FastcifarError(f"{path / MANIFEST} lacks {', '.join(missing)}; {cure}")
    files = manifest["files"]
    entries = files.values() if isinstance(files, dict) else [None]
    if not all(isinstance(entry, dict) and entry.keys() >= ENTRY for entry in entries):
        raise FastcifarError(f"{path / MANIFEST} is damaged: its files are not as they were written; {cure}")
    return manifest


def mean_std(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean and standard deviation of pixels scaled to [0, 1].

    counts: (256,) the number of pixels with each value in [0, 255]. All steps but the last use integers.
    """
    n = sum(map(int, counts))
    total = sum(value * int(count) for value, count in enumerate(counts))
    squares = sum(value * value * int(count) for value, count in enumerate(counts))
    return total / (255 * n), sqrt(n * squares - total * total) / (255 * n)


def histogram_of(images: U8) -> Histogram:
    """Return the histogram of images (N, 32, 32, 3) uint8."""
    return np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)])


def manifest_of(
    classes: Sequence[str],
    counts: Mapping[str, int],
    source: Mapping[str, str],
    histogram: Histogram,
    split_seed: int | None,
    libraries: Mapping[str, str],
) -> dict[str, Any]:
    """Return a manifest without files and without the hash of the content.

    source: the name and the sha256 of the source. histogram: that of the train images, or of the test images where
    there are no train images. split_seed: None for a validation split that was given. libraries: the version of the
    library of each additional format.
    """
    mean, std = zip(*map(mean_std, histogram), strict=True)
    return {
        "format": FORMAT,
        "version": VERSIONS[len(classes) > BYTE_CLASSES],
        "sha256": None,
        "classes": list(classes),
        "counts": dict(counts),
        "image_shape": list(IMAGE_SHAPE),
        "mean": mean,
        "std": std,
        "source": dict(source),
        "split_seed": split_seed,
        "formats": ["raw", *libraries],
        "tools": {
            "fastcifar": __version__,
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "pillow": version("pillow"),
            **libraries,
        },
        "files": {},
    }
