"""The dataset directory: open, verify and split it. The module `convert` writes it and describes its layout."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcifar.data.sources.files import file_sha256
from fastcifar.data.sources.source import IMAGE_SHAPE, U8
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.rng.philox import Stream, permutation

FORMAT, VERSION = "fastcifar dataset", 1
MANIFEST = "manifest.json"
PARTS = ("train", "test")
SPLITS = ("training", "validation", "labelled", "test")
REMAKE = "make the dataset anew: fastcifar convert SRC DEST --overwrite"
HELD_OUT = 5  # one image in five is for validation
ENTRY = {"bytes", "sha256"}  # the keys of each file in the manifest
KEYS = ("classes", "counts", "image_shape", "mean", "std", "source", "split_seed", "files", "sha256", "tools")


def split_of(n: int, seed: int) -> U8:
    """Return a random split, not stratified, (n,) uint8: 1 for n // 5 validation images, 0 for training images."""
    split = np.zeros(n, np.uint8)
    split[permutation(n, seed, Stream.SPLIT)[: n // HELD_OUT]] = 1
    return split


def files_in(folder: Path) -> set[str]:
    """Return the relative names of all files in a dataset directory, except the manifest."""
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir()} - {MANIFEST}


def content_hash(files: dict[str, Any], classes: Sequence[str]) -> str:
    """Return one SHA-256 for images, labels, ids, split and classes; other formats do not change it."""
    arrays = {name: entry["sha256"] for name, entry in files.items() if name.endswith(".npy")}
    return hashlib.sha256(json.dumps([sorted(arrays.items()), list(classes)]).encode()).hexdigest()


class Dataset:
    """A dataset directory. Each array is mapped into memory, read-only, at its first use.

    path: the directory. manifest: the content of manifest.json. classes: the names of the labels. name: the name of the
    source. sha256: the hash that identifies the content. mean, std: per channel, of the train pixels in [0, 1].
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest = path, manifest
        self.classes: tuple[str, ...] = tuple(manifest["classes"])
        self.name: str = manifest["source"]["name"]
        self.sha256: str = manifest["sha256"]
        self.mean: tuple[float, ...] = tuple(manifest["mean"])
        self.std: tuple[float, ...] = tuple(manifest["std"])
        self._arrays: dict[str, NDArray[Any]] = {}

    @classmethod
    def open(cls, path: str | Path) -> "Dataset":
        """Open a dataset directory, and check that every file exists with its full size; ``verify`` checks the bytes.

        Raises UsageError for a path that is not a dataset, FastcifarError for a damaged dataset.
        """
        path = Path(path)
        manifest = read_manifest(path)
        try:
            dataset = cls(path, manifest)
            dataset._check()
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # values that convert never writes
            raise FastcifarError(f"{path / MANIFEST} is damaged ({error!r}); {REMAKE}") from error
        return dataset

    def _check(self) -> None:
        """Raise FastcifarError unless all files have the sizes and shapes in the manifest."""
        for name, entry in self.manifest["files"].items():
            file = self.path / name
            size = file.stat().st_size if file.is_file() else None
            if size != entry["bytes"]:
                fault = "is missing" if size is None else f"has {size:,} bytes, not the {entry['bytes']:,} written"
                raise FastcifarError(f"{file} {fault}; {REMAKE}")
        for part, count in self.manifest["counts"].items():
            self.images(part)
            if self.labels(part) is None and self.test_ids() is None:
                raise FastcifarError(
                    f"{self.path} has neither labels nor ids for its {count:,} {part} images; {REMAKE}"
                )
        self._split()

    def __reduce__(self) -> tuple[Any, ...]:
        return Dataset.open, (self.path,)  # a worker process maps the files itself instead of receiving their bytes

    def images(self, part: str) -> U8:
        """Return the images of "train" or "test": (N, 32, 32, 3) uint8, memory-mapped, read-only."""
        return self._array(f"{part}.images.npy", (self._count(part), *IMAGE_SHAPE), np.uint8)

    def labels(self, part: str) -> U8 | None:
        """Return the labels of "train" or "test", (N,) uint8; None for a test part without labels."""
        count = self._count(part)
        if part == "test" and "test.labels.npy" not in self.manifest["files"]:
            return None
        return self._array(f"{part}.labels.npy", (count,), np.uint8)

    def test_ids(self) -> NDArray[np.int64] | None:
        """Return Kaggle's id of each test row, (N,) int64, ascending; None for any other source."""
        if "test.ids.npy" not in self.manifest["files"]:
            return None
        return self._array("test.ids.npy", (self._count("test"),), np.int64)

    def part(self, split: str) -> str:
        """Return the part that contains a split: "train" or "test". Raises UsageError for an unknown split."""
        if split not in SPLITS:
            raise UsageError(f"unknown split {split!r}; there are {', '.join(SPLITS)}")
        return "test" if split == "test" else "train"

    def ids(self, split: str, split_seed: int | None = None) -> NDArray[np.int64]:
        """Return the rows of a split in its part, (n,) int64, ascending.

        split: "training", "validation", "labelled" (both of these) or "test". split_seed: draw the training and
        validation rows anew from this seed; None uses the dataset's own split.
        """
        count = self._count(self.part(split))
        if split in ("labelled", "test"):
            return np.arange(count)
        drawn = self._split() if split_seed is None else split_of(count, split_seed)
        return np.flatnonzero(drawn == ("training", "validation").index(split)).astype(np.int64)

    def _count(self, part: str) -> int:
        if part not in PARTS:
            raise UsageError(f"unknown part {part!r}; there are {', '.join(PARTS)}")
        if part not in self.manifest["counts"]:
            raise UsageError(f"{self.path} has no {part} images, as {self.name} had none")
        return int(self.manifest["counts"][part])

    def _split(self) -> U8:
        return self._array("split.npy", (self._count("train"),), np.uint8)

    def _array(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        if name not in self._arrays:
            try:
                array = np.load(self.path / name, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise FastcifarError(f"cannot read {self.path / name}: {error}") from error
            if array.shape != shape or array.dtype != dtype:
                raise FastcifarError(
                    f"{self.path / name} holds {array.dtype} {array.shape}; {np.dtype(dtype)} {shape} is needed"
                )
            self._arrays[name] = array
        return self._arrays[name]


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
    if manifest.get("version") != VERSION:
        raise UsageError(
            f"{path} has dataset format version {manifest.get('version')!r}; version {VERSION} is read here: {cure}"
        )
    if missing := [key for key in KEYS if key not in manifest]:
        raise FastcifarError(f"{path / MANIFEST} lacks {', '.join(missing)}; {cure}")
    files = manifest["files"]
    entries = files.values() if isinstance(files, dict) else [None]
    if not all(isinstance(entry, dict) and entry.keys() >= ENTRY for entry in entries):
        raise FastcifarError(f"{path / MANIFEST} is damaged: its files are not as they were written; {cure}")
    return manifest


def verify(path: str | Path) -> Dataset:
    """Hash every file of a dataset directory again, and open the dataset.

    Raises FastcifarError with the name of each file that is missing, additional or different.
    """
    path = Path(path)
    manifest = read_manifest(path)
    present = files_in(path)
    faults = [f"{name} is not in the manifest" for name in sorted(present - manifest["files"].keys())]
    for name, entry in manifest["files"].items():
        if name not in present:
            faults.append(f"{name} is missing")
        elif (path / name).stat().st_size != entry["bytes"] or file_sha256(path / name) != entry["sha256"]:
            faults.append(f"{name} differs from what was written")
    if content_hash(manifest["files"], manifest["classes"]) != manifest["sha256"]:
        faults.append(f"{MANIFEST} has a sha256 that does not match its files and classes")
    if faults:
        raise FastcifarError(f"{path} is not as it was written: {'; '.join(faults)}")
    return Dataset.open(path)
