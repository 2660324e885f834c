"""The dataset: a directory, which is opened and verified, or arrays in memory. The module `convert` writes a directory
and describes its layout.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcifar.data.manifest import CURE, label_dtype, read_manifest
from fastcifar.data.manifest import MANIFEST as MANIFEST
from fastcifar.data.npy import DAMAGED
from fastcifar.data.sources.source import IMAGE_SHAPE, U8, Labels
from fastcifar.data.verification import verify_files, verify_once, verify_statements, wrong_size
from fastcifar.errors import FastcifarError, UsageError, unknown
from fastcifar.rng.philox import Stream, permutation
from fastcifar.show.text import printable
from fastcifar.system.paths import path_of

PARTS = ("train", "test")
SPLITS = ("training", "validation", "labelled", "test")
ALIASES = {"train": "training", "val": "validation", "valid": "validation"}
HELD_OUT = 5  # one image in five is for validation


def split_of(n: int, seed: int) -> U8:
    """Return a random split, not stratified, (n,) uint8: 1 for n // 5 validation images, 0 for training images."""
    split = np.zeros(n, np.uint8)
    split[permutation(n, seed, Stream.SPLIT)[: n // HELD_OUT]] = 1
    return split


def split_name(name: str) -> str:
    """Return the name of a split: one of SPLITS, also for "train" and "val". Raises UsageError for any other name."""
    split = ALIASES.get(name, name)
    if split not in SPLITS:
        raise unknown("split", name, [*SPLITS, *ALIASES])
    return split


class Dataset:
    """A dataset directory, whose arrays are mapped into memory, read-only, at their first use, or arrays in memory.

    path: the directory. manifest: the content of manifest.json. classes: the names of the labels. name: the name of the
    source. sha256: the hash that identifies the content. verified: whether the files were compared with the manifest
    when the dataset was opened. mean, std: per channel, of the train pixels in [0, 1]; of the
    test pixels where there are no train images.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None) -> None:
        """arrays: the arrays by their file names, for a dataset in memory; ``path`` is then `memory.NOWHERE`."""
        self.path, self.manifest, self.verified = path, manifest, arrays is not None
        self.classes: tuple[str, ...] = tuple(manifest["classes"])
        self.name = printable(manifest["source"]["name"])
        self.sha256: str = manifest["sha256"]
        self.mean: tuple[float, ...] = tuple(manifest["mean"])
        self.std: tuple[float, ...] = tuple(manifest["std"])
        self._memory = arrays
        self._absolute = path if arrays is not None else path.absolute()  # the present folder may change
        self._arrays: dict[str, NDArray[Any]] = dict(arrays or {})

    @classmethod
    def from_arrays(
        cls,
        images: ArrayLike,
        labels: ArrayLike,
        classes: Sequence[str] | int,
        *,
        validation: tuple[ArrayLike, ArrayLike] | None = None,
        test: tuple[ArrayLike, ArrayLike] | None = None,
        split_seed: int = 0,
        name: str = "arrays in memory",
    ) -> "Dataset":
        """Return a dataset of arrays, which are copied; nothing is written to the disk.

        images: (N, 32, 32, 3) uint8. labels: (N,) integers in [0, number of classes). classes: the name of each label,
        or the number of classes, whose names are then "0", "1", ... validation, test: (images, labels) of these splits.
        Without ``validation``, N // 5 images drawn by ``split_seed`` are for validation. name: the name for people.

        The sha256 is that of a dataset directory with the same arrays; ``convert(dataset, DEST)`` writes one. Raises
        UsageError for arrays of another shape, dtype or range.
        """
        from fastcifar.data.memory import arrays_of, dataset_of

        made = arrays_of(images, labels, classes, validation, test, split_seed)
        return dataset_of(made, name, split_seed if validation is None else None)

    @classmethod
    def open(cls, path: str | Path, verify: bool = True) -> "Dataset":
        """Open a dataset directory, and compare the bytes of its files with the hashes in its manifest.

        The bytes are read once a process tree, at about 1 GB/s a core, and again when a file has changed. verify: False
        checks only that every file exists with its full size, and that labels and split are in range.

        Raises UsageError for a path that is not a dataset, FastcifarError for a damaged dataset.
        """
        path = path_of(path)
        try:
            dataset = cls(path, read_manifest(path))
            if verify:
                verify_once(dataset)
            dataset._check()
        except OSError as error:
            raise FastcifarError(f"cannot read {error.filename or path} ({error.strerror})") from error
        dataset.verified = verify
        return dataset

    def _check(self) -> None:
        """Raise FastcifarError unless all files have the sizes and shapes in the manifest, and their values a range."""
        for name, entry in self.manifest["files"].items():
            if wrong := wrong_size(self.path / name, entry):
                raise FastcifarError(f"{self.path / name} {wrong}; {CURE}")
        for part in self.manifest["counts"]:
            self.images(part)
            self._within(f"{part}.labels.npy", self.labels(part), len(self.classes))
        self.test_ids()
        if "train" in self.manifest["counts"]:
            self._within("split.npy", self.split(), 2)

    def _within(self, name: str, values: NDArray[Any] | None, bound: int) -> None:
        if values is not None and values.max() >= bound:
            raise FastcifarError(f"{self.path / name} is damaged: it has {values.max()}, outside [0, {bound}); {CURE}")

    def facts(self) -> dict[str, Any]:
        """Return what tells datasets apart, as values for JSON: images_of_classes (of the train images), mean, std."""
        labels = self.labels("train") if "train" in self.manifest["counts"] else None
        counts = [] if labels is None else np.bincount(labels, minlength=len(self.classes)).tolist()
        return {"images_of_classes": counts, "mean": list(self.mean), "std": list(self.std)}

    def cure_for_format(self, name: str) -> str:
        """Return the way to a dataset that has the files of a format of data.formats, as the end of a message."""
        if self._memory is not None:
            return (
                f'write it to a directory, and open that: fastcifar.convert(dataset, "data/mine", formats=["{name}"])'
            )
        return f"convert it again: fastcifar convert SRC DEST --formats {name} --overwrite"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._memory is not None:
            return Dataset, (self.path, self.manifest, self._memory)
        # a worker process maps the files itself instead of receiving their bytes
        return Dataset.open, (self._absolute, self.verified)

    def images(self, part: str) -> U8:
        """Return the images of "train" or "test": (N, 32, 32, 3) uint8, memory-mapped, read-only."""
        return self._array(f"{part}.images.npy", (self._count(part), *IMAGE_SHAPE), np.uint8)

    def labels(self, part: str) -> Labels | None:
        """Return the labels of "train" or "test", (N,); None for a test part without labels.

        They are uint8 for up to 256 classes, uint16 for more.
        """
        count = self._count(part)
        if part == "test" and "test.labels.npy" not in self.manifest["files"]:
            return None
        return self._array(f"{part}.labels.npy", (count,), label_dtype(len(self.classes)))

    def test_ids(self) -> NDArray[np.int64] | None:
        """Return Kaggle's id of each test row, (N,) int64, ascending; None for any other source."""
        if "test.ids.npy" not in self.manifest["files"]:
            return None
        return self._array("test.ids.npy", (self._count("test"),), np.int64)

    def part(self, split: str) -> str:
        """Return the part that contains a split: "train" or "test". Raises UsageError for an unknown split."""
        return "test" if split_name(split) == "test" else "train"

    def ids(self, split: str, split_seed: int | None = None) -> NDArray[np.int64]:
        """Return the rows of a split in its part, (n,) int64, ascending.

        split: "training" or "train", "validation" or "val", "labelled" (both of these) or "test". split_seed: draw the
        training and validation rows anew from this seed; None uses the dataset's own split.
        """
        split = split_name(split)
        count = self._count(self.part(split))
        if split in ("labelled", "test"):
            return np.arange(count)
        drawn = self.split() if split_seed is None else split_of(count, split_seed)
        return np.flatnonzero(drawn == ("training", "validation").index(split)).astype(np.int64)

    def _count(self, part: str) -> int:
        if part not in PARTS:
            raise UsageError(f"unknown part {part!r}; there are {', '.join(PARTS)}")
        if part not in self.manifest["counts"]:
            raise UsageError(f"{self.path} has no {part} images, as {self.name} had none")
        return int(self.manifest["counts"][part])

    def split(self) -> U8:
        """Return the dataset's own split of the train images, (N,) uint8: 0 for training, 1 for validation."""
        return self._array("split.npy", (self._count("train"),), np.uint8)

    def _array(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        if name not in self._arrays:
            try:
                array = np.load(self.path / name, mmap_mode="r", allow_pickle=False)
            except DAMAGED as error:
                raise FastcifarError(f"{self.path / name} is damaged ({error}); {CURE}") from error
            if array.shape != shape or array.dtype != dtype:
                raise FastcifarError(
                    f"{self.path / name} holds {array.dtype} {array.shape}; {np.dtype(dtype)} {shape} is needed"
                )
            self._arrays[name] = array
        return self._arrays[name]


def verify(path: str | Path) -> Dataset:
    """Hash every file of a dataset directory again, compare the manifest with the arrays, and open the dataset.

    Raises FastcifarError with the name of each file that is missing, additional or different.
    """
    path = path_of(path)
    verify_files(path, read_manifest(path), extra=True)
    dataset = Dataset.open(path, verify=False)
    verify_statements(dataset)
    dataset.verified = True
    return dataset
