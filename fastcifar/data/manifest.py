"""The manifest of a dataset directory: how it is made, read and checked."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from math import sqrt
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from fastcifar.data.sources.source import IMAGE_SHAPE, U8
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.system.schema import LARGEST, Count, Ordinal, Sha256, Three, parse_object, read_bounded
from fastcifar.system.seals import SEAL, seal_of, sealed
from fastcifar.system.temporary import NAME as TEMPORARY
from fastcifar.system.temporary import sweep
from fastcifar.version import __version__

MANIFEST = "manifest.json"
CACHE = "cache/features-*.safetensors"
"""The files that training with ``tune=head`` adds to a dataset directory. They can be computed again, so they belong to
no manifest, and `convert` may replace them with the dataset."""
FORMAT = "fastcifar dataset"
VERSIONS = (1, 2)  # 2: there are more than BYTE_CLASSES classes, and the labels are uint16
BYTE_CLASSES = 256  # the most classes whose labels are uint8
CURE = "make the dataset anew: fastcifar convert SRC DEST --overwrite"
UNSEALED = ("0.1.0", "0.2.0")
"""The versions of fastcifar that wrote manifests without a seal."""
UNREADABLE = "make the dataset anew, at another place: fastcifar convert SRC DEST"  # --overwrite needs a manifest
SOME = 64  # images whose histogram is counted at once: their pixels stay in the processor's cache

Histogram = NDArray[np.int64]  # (3, 256): the number of pixels of each channel with each value


class Entry(TypedDict):
    """A file of the dataset."""

    bytes: Count
    sha256: Sha256


class Origin(TypedDict):
    """The source that the dataset was made from."""

    name: str
    sha256: str


class Manifest(TypedDict):
    """The schema of manifest.json. Since version 0.3 it has a seal, too."""

    format: Literal["fastcifar dataset"]
    version: Literal[1, 2]
    sha256: Sha256
    classes: list[str]
    counts: dict[Literal["train", "test"], Ordinal]
    image_shape: list[Count]
    mean: Three
    std: Three
    source: Origin
    split_seed: Count | None
    files: dict[str, Entry]
    tools: dict[str, str]


class Named(TypedDict):
    """The part of a manifest that says whether this program can read it."""

    format: str
    version: int


def label_dtype(classes: int) -> np.dtype[Any]:
    """Return the dtype of the labels in the files: uint8 for up to BYTE_CLASSES classes, uint16 for more."""
    return np.dtype(np.uint8 if classes <= BYTE_CLASSES else np.uint16)


def files_in(folder: Path) -> set[str]:
    """Return the relative names of all files in a dataset directory.

    The manifest, the files of CACHE, and what is being written or was left by a process that was killed, do not belong.
    """
    files = [file for file in folder.rglob("*") if not file.is_dir()]
    kept = [file for file in files if not file.match(CACHE) and not TEMPORARY.fullmatch(file.name)]
    return {file.relative_to(folder).as_posix() for file in kept} - {MANIFEST}


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
        sweep(path.parent)  # moves back what a killed conversion had moved aside
    if not path.exists():
        raise UsageError(f"there is no dataset at {path}; {cure}")
    if not (path / MANIFEST).is_file():
        raise UsageError(f"{path} is not a dataset directory, as it has no {MANIFEST}; {cure}")
    file = path / MANIFEST
    content = read_bounded(file, LARGEST, UNREADABLE)
    about = parse_object(content, Named, file, UNREADABLE)
    if about["format"] != FORMAT:
        raise UsageError(f"{file} is not a fastcifar dataset's; {cure}")
    if about["version"] not in VERSIONS:
        raise UsageError(
            f"{file} has dataset format version {about['version']!r}; "
            f"the versions {' and '.join(map(str, VERSIONS))} are read here: {cure}"
        )
    manifest = parse_object(content, Manifest, file, UNREADABLE)
    if fault := _contradiction(manifest):
        raise FastcifarError(f"{file} is damaged ({fault}); {UNREADABLE}")
    return manifest


def _contradiction(manifest: dict[str, Any]) -> str | None:
    """Return what a manifest, which fits its schema, says against itself; None if it says nothing."""
    files, counts, classes = manifest["files"], manifest["counts"], manifest["classes"]
    if SEAL in manifest and manifest[SEAL] != seal_of(manifest):
        return "its seal is not that of its content"
    if SEAL not in manifest and manifest["tools"].get("fastcifar") not in UNSEALED:
        return "it has no seal"
    if content_hash(files, classes) != manifest["sha256"]:
        return "its sha256 is not that of its files and classes"
    outside = [name for name in files if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    if outside:
        return f"its file {outside[0]!r} is outside the dataset"
    arrays = {name for part in counts for name in (f"{part}.images.npy", f"{part}.labels.npy")}
    arrays |= {"split.npy"} if "train" in counts else set()
    if "test.ids.npy" in files:
        arrays ^= {"test.labels.npy", "test.ids.npy"}
    if not counts or arrays != {name for name in files if name.endswith(".npy")}:
        return f"its counts {counts} do not fit its files"
    if (manifest["split_seed"] or 0) >> 64:
        return "its split_seed has more than 64 bits"
    if manifest["image_shape"] != list(IMAGE_SHAPE) or not classes or len(set(classes)) != len(classes):
        return "its image_shape or its classes are none that fastcifar writes"
    return None


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Return the content of the file of a manifest, which has the seal of its other entries."""
    return json.dumps(sealed(manifest), indent=2).encode() + b"\n"


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
    counts = np.zeros((3, 256), np.int64)
    for start in range(0, len(images), SOME):
        some = images[start : start + SOME]
        counts += [np.bincount(some[..., channel].ravel(), minlength=256) for channel in range(3)]
    return counts


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
