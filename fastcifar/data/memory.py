"""Datasets in memory: checked arrays, a manifest like that of a directory, and a dataset as a source for `convert`."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcifar.data.dataset import HELD_OUT, PARTS, Dataset, split_of
from fastcifar.data.manifest import content_hash, histogram_of, label_dtype, manifest_of
from fastcifar.data.npy import entry_of
from fastcifar.data.sources.source import IMAGE_SHAPE, MAX_CLASSES, Chunk, Source
from fastcifar.errors import UsageError
from fastcifar.show.text import quoted

CHUNK = 10_000  # images copied at a time
Arrays = dict[str, NDArray[Any]]


class Nowhere:
    """Stands where the directory of a dataset would stand. It is a text in messages; whoever needs files is told so."""

    def __str__(self) -> str:
        return "the dataset in memory"

    def __reduce__(self) -> str:
        return "NOWHERE"

    def __truediv__(self, name: object) -> NoReturn:
        raise UsageError(
            f"the dataset is in memory and has no file {str(name)!r}; write it to a directory, and open that: "
            'fastcifar.convert(dataset, "data/mine")'
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # what copy and pickle look for
            raise AttributeError(name)
        raise UsageError(
            "the dataset is in memory and has no directory; write it to one, and open that: "
            'fastcifar.convert(dataset, "data/mine")'
        )


NOWHERE = Nowhere()


def arrays_of(
    images: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[str] | int,
    validation: tuple[ArrayLike, ArrayLike] | None,
    test: tuple[ArrayLike, ArrayLike] | None,
    split_seed: int,
) -> tuple[Arrays, tuple[str, ...]]:
    """Return the arrays of a dataset by their file names, and its classes.

    The arguments are those of `Dataset.from_arrays`. Raises UsageError for arrays that are no dataset.
    """
    names = class_names(classes)
    train = _checked(images, labels, names, "")
    count = len(train[0])
    if validation is None and count < HELD_OUT:
        raise UsageError(f"{count} images leave none for validation; give at least {HELD_OUT}, or validation=")
    if validation is None:
        split = split_of(count, split_seed)
    else:
        held = _checked(*_pair(validation, "validation"), names, "validation ")
        train = np.concatenate([train[0], held[0]]), np.concatenate([train[1], held[1]])
        split = np.repeat(np.array([0, 1], np.uint8), [count, len(held[0])])
    arrays: Arrays = {"train.images.npy": train[0], "train.labels.npy": train[1], "split.npy": split}
    if test is not None:
        arrays["test.images.npy"], arrays["test.labels.npy"] = _checked(*_pair(test, "test"), names, "test ")
    return arrays, names


def class_names(classes: Sequence[str] | int) -> tuple[str, ...]:
    """Return the names of the classes. Raises UsageError unless there are 2 to MAX_CLASSES different texts."""
    names: tuple[Any, ...] = ()
    if isinstance(classes, (int, np.integer)):
        names = tuple(map(str, range(min(int(classes), MAX_CLASSES + 1))))
    elif isinstance(classes, Iterable) and not isinstance(classes, (str, Set)):  # a set has no order
        names = tuple(classes)
    if not 2 <= len(names) <= MAX_CLASSES or not all(isinstance(name, str) for name in names):
        raise UsageError(
            f"classes {str(classes)[:40]!r} are not 2 to {MAX_CLASSES:,} names; give a list of texts, or their number"
        )
    if strange := [name for name in names if name != name.encode("utf-8", "replace").decode()]:
        raise UsageError(
            f"the class {quoted(strange[0])} is not UTF-8 text; give it a name that can be written to files"
        )
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise UsageError(f"the class {twice!r} is there twice; give each class its own name")
    return names


def dataset_of(made: tuple[Arrays, tuple[str, ...]], name: str, split_seed: int | None) -> Dataset:
    """Return the dataset in memory of the arrays and classes that `arrays_of` made. name: the name for people."""
    arrays, classes = made
    for array in arrays.values():
        array.flags.writeable = False
    counts = {part: len(arrays[f"{part}.images.npy"]) for part in PARTS if f"{part}.images.npy" in arrays}
    files = {file: entry_of(array) for file, array in sorted(arrays.items())}
    sha256 = content_hash(files, classes)
    histogram = histogram_of(arrays["train.images.npy"])
    manifest = manifest_of(classes, counts, {"name": name, "sha256": sha256}, histogram, split_seed, {})
    return Dataset(cast(Path, NOWHERE), manifest | {"files": files, "sha256": sha256}, arrays)


def _array(values: Any, what: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors with a gradient or on a device
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"the {what} cannot be made an array ({reason}); give one array, or a tensor.detach().cpu().numpy()"
        ) from error


def _pair(arrays: Any, what: str) -> tuple[ArrayLike, ArrayLike]:
    if not isinstance(arrays, (tuple, list)) or len(arrays) != 2:
        raise UsageError(f"{what} is a {type(arrays).__name__}; give it as a pair: {what}=(images, labels)")
    return arrays[0], arrays[1]


def _checked(
    images: ArrayLike, labels: ArrayLike, classes: Sequence[str], what: str
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Return copies of the images and labels as they are stored. what: the split, with a space, for messages."""
    pixels, answers = _array(images, f"{what}images"), _array(labels, f"{what}labels")
    if pixels.dtype != np.uint8:
        cure = (
            "for values in [0, 1], (images * 255).round().astype('uint8')"
            if pixels.dtype.kind == "f"
            else "if all values are 0 to 255, np.asarray(images).astype('uint8')"
        )
        raise UsageError(f"the {what}images are {pixels.dtype}; uint8 is needed: {cure}")
    if pixels.ndim != 4 or pixels.shape[1:] != IMAGE_SHAPE or not len(pixels):
        cure = "images.transpose(0, 2, 3, 1)" if pixels.shape[1:] == (3, 32, 32) else "resize or crop them first"
        raise UsageError(f"the {what}images have the shape {pixels.shape}; (N, 32, 32, 3) is needed: {cure}")
    if answers.dtype.kind not in "iu" or answers.shape != pixels.shape[:1]:
        raise UsageError(
            f"the {what}labels are {answers.dtype} of shape {answers.shape}; give one integer for each of the "
            f"{len(pixels):,} images"
        )
    wrong = (answers < 0) | (answers >= len(classes))
    if wrong.any():
        at = int(wrong.argmax())
        raise UsageError(
            f"the {what}image {at} has the label {answers[at]}; labels of {len(classes):,} classes are "
            f"0 to {len(classes) - 1}"
        )
    return np.array(pixels, order="C"), answers.astype(label_dtype(len(classes)))


class Stored(Source):
    """A dataset as a source, in memory or in a directory: a conversion of it has the same content and the same hash."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.name, self.classes = dataset.name, dataset.classes
        self.counts: Mapping[str, int] = dataset.manifest["counts"]
        self.test_ids = dataset.test_ids()
        if "train" in self.counts:
            self.split = np.zeros(self.counts["train"], np.uint8)
            self.split[dataset.ids("validation")] = 1
            self.split_seed = dataset.manifest["split_seed"]

    def chunks(self, part: str) -> Iterator[Chunk]:
        images, labels = self._dataset.images(part), self._dataset.labels(part)
        for start in range(0, len(images), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(images)))
            yield Chunk(rows, images[rows], None if labels is None else labels[rows])

    def sha256(self) -> str:
        return str(self._dataset.manifest["source"]["sha256"])
