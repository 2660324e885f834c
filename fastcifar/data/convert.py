"""Conversion of a source to a dataset directory, which appears whole or not at all.

The directory holds manifest.json, train.images.npy (N, 32, 32, 3) uint8, train.labels.npy (N,) and split.npy (N,)
uint8. A labelled test part adds test.images.npy and test.labels.npy. Kaggle's test part adds test.images.npy and
test.ids.npy (M,) int64. A source of test images alone gives only the files of the test part. Labels are uint8 for up to
256 classes, uint16 for more. The optional formats add the folders ffcv/ and dali/.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastcifar.data.dataset import HELD_OUT, Dataset, split_of, verify
from fastcifar.data.formats import extra_formats
from fastcifar.data.manifest import (
    MANIFEST,
    Histogram,
    content_hash,
    files_in,
    histogram_of,
    label_dtype,
    manifest_bytes,
    manifest_of,
    read_manifest,
)
from fastcifar.data.memory import Stored
from fastcifar.data.npy import header_of
from fastcifar.data.sources import IMAGE_SHAPE, Chunk, Source, open_source
from fastcifar.data.sources.files import file_sha256
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.show.progress import track
from fastcifar.system.atomic import meanwhile, neighbour, put_in_place, writing
from fastcifar.system.paths import path_of
from fastcifar.system.temporary import sweep


def convert(
    source: str | Path | Dataset,
    dest: str | Path,
    formats: Sequence[str] = ("raw",),
    split_seed: int | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Dataset:
    """Write the images of a source as a dataset directory at ``dest``, and open it.

    source: see ``fastcifar.data.sources.open_source``, which takes the ``options`` as well; or a dataset or its
    directory, which is copied, for example to add formats. formats: any of "raw" (always written), "ffcv", "dali".
    split_seed: the seed of the validation split; by default 0, or the validation split of the source. overwrite:
    replace the dataset at ``dest``; the old one stays until the new one is complete. Where another process writes
    ``dest`` meanwhile, its dataset stays.
    Raises UsageError for arguments that cannot work, FastcifarError for a failed conversion. After an error, no
    incomplete dataset is left.
    """
    extras = extra_formats(formats)
    dest = path_of(dest)
    dest = dest.resolve() if dest.is_symlink() else dest.absolute()
    for folder in (dest.parent, dest, dest / "cache"):
        sweep(folder)  # before the look at them
    _check_destination(dest, overwrite)
    before = _identity(dest)
    with _opened(source, options) as images, neighbour(dest) as folder:
        split, seed = _split(images, split_seed)
        histogram = _write_arrays(images, folder)
        if split is not None:
            _save(folder / "split.npy", split)
        manifest = _manifest(images, histogram, seed, {name: module.version() for name, module in extras.items()})
        _write_manifest(folder, manifest)
        for module in extras.values():
            module.write(Dataset.open(folder, verify=False))  # it was written just now
        if extras:
            _write_manifest(folder, manifest)
        if _identity(dest) != before:
            raise meanwhile(dest)
        put_in_place(folder, dest, overwrite)
    return Dataset.open(dest)


def _opened(source: str | Path | Dataset, options: dict[str, Any]) -> Source:
    """Open the source of a conversion. A dataset takes no options; its directory is verified first."""
    if not isinstance(source, Dataset):
        if not (path_of(source) / MANIFEST).is_file():
            return open_source(str(source), **options)
        source = verify(source)
    if given := [name for name, value in options.items() if value not in (None, False)]:
        raise UsageError(f"{source.path} is a dataset, which takes no --{given[0]}; leave it out")
    return Stored(source)


def _identity(dest: Path) -> tuple[int, int] | None:
    """Return what tells a file or folder from another one that takes its place; None where there is none."""
    return (dest.stat().st_dev, dest.stat().st_ino) if dest.exists() else None


def _check_destination(dest: Path, overwrite: bool) -> None:
    """Raise UsageError if a dataset must not be written at ``dest``."""
    if not dest.exists():
        return
    if not overwrite:
        raise UsageError(f"{dest} exists; choose another DEST, or replace the dataset there with --overwrite")
    try:
        manifest = read_manifest(dest)
    except FastcifarError as error:
        raise UsageError(
            f"{error}; --overwrite replaces nothing but datasets: choose another DEST, or move {dest} to another place"
        ) from error
    if foreign := sorted(files_in(dest) - manifest["files"].keys()):
        raise UsageError(
            f"{dest} holds {foreign[0]!r}, which --overwrite would delete and fastcifar did not write; move it to "
            "another place"
        )


def _split(source: Source, seed: int | None) -> tuple[NDArray[np.uint8] | None, int | None]:
    """Return the validation split of the train images, (N,) uint8, and its seed; None and None without train images."""
    if "train" not in source.counts or source.split is not None:
        if seed is not None:
            why = "there are no train images" if source.split is None else "the validation images are given"
            raise UsageError(f"--split-seed {seed} draws no split, as {why} in {source.name}; leave it out")
        return source.split, source.split_seed
    if source.counts["train"] < HELD_OUT:
        raise FastcifarError(f"{source.name} has {source.counts['train']} train images; at least {HELD_OUT} are needed")
    seed = 0 if seed is None else seed
    return split_of(source.counts["train"], seed), seed


def _write_arrays(source: Source, folder: Path) -> Histogram:
    """Write the images and labels; return the histogram of the train images, or of the test images without those."""
    histogram = np.zeros((3, 256), np.int64)
    for part, count in source.counts.items():
        labels, seen = np.zeros(count, label_dtype(len(source.classes))), np.zeros(count, bool)
        path = folder / f"{part}.images.npy"
        with writing(path), open(path, "wb") as file:
            # Plain writes raise OSError on a full disk; a memory map would end the process with SIGBUS.
            start = file.write(header_of(np.dtype(np.uint8), (count, *IMAGE_SHAPE)))
            chunks = track(source.chunks(part), f"reading {part} images", count, lambda chunk: len(chunk.rows))
            for chunk in chunks:
                _write_rows(file, start, chunk.rows, chunk.images)
                seen[chunk.rows] = True
                if chunk.labels is not None:
                    labels[chunk.rows] = _known(chunk, source)
                if part == "train" or "train" not in source.counts:
                    histogram += histogram_of(chunk.images)
        if not seen.all():
            raise FastcifarError(
                f"{source.name} gave {seen.sum():,} of its {count:,} {part} images; "
                "convert it again, and do not change it meanwhile"
            )
        if part == "test" and source.test_ids is not None:
            _save(folder / "test.ids.npy", source.test_ids)
        else:
            _save(folder / f"{part}.labels.npy", labels)
    return histogram


def _known(chunk: Chunk, source: Source) -> NDArray[np.integer[Any]]:
    """Return the labels of a chunk. Raises FastcifarError for a label that no class has."""
    labels = chunk.labels
    assert labels is not None
    if labels.min() < 0 or labels.max() >= len(source.classes):
        at = int(np.argmax((labels < 0) | (labels >= len(source.classes))))
        raise FastcifarError(
            f"{source.name}: image {chunk.rows[at]} has the label {labels[at]}; "
            f"0 to {len(source.classes) - 1} are labels"
        )
    return labels


def _write_rows(file: IO[bytes], start: int, rows: NDArray[np.int64], images: NDArray[np.uint8]) -> None:
    """Write images to their rows of the array that begins at byte ``start``, with one write per run of neighbours."""
    order = np.argsort(rows)
    for run in np.split(order, np.flatnonzero(np.diff(rows[order]) != 1) + 1):
        file.seek(start + int(rows[run[0]]) * images[0].nbytes)
        file.write(images[run].tobytes())


def _save(path: Path, array: NDArray[Any]) -> None:
    with writing(path), open(path, "wb") as file:
        file.write(header_of(array.dtype, array.shape))
        file.write(array.tobytes())  # the error of np.save would not name a full disk, only the number of items written


def _manifest(
    source: Source, histogram: Histogram, split_seed: int | None, libraries: dict[str, str]
) -> dict[str, Any]:
    about = {"name": source.name, "sha256": source.sha256()}
    manifest = manifest_of(source.classes, source.counts, about, histogram, split_seed, libraries)
    notes = source.notes()
    return manifest | {"notes": notes} if notes else manifest


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    for name in sorted(files_in(folder) - manifest["files"].keys()):
        manifest["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
    manifest["sha256"] = content_hash(manifest["files"], manifest["classes"])
    with writing(folder / MANIFEST):
        (folder / MANIFEST).write_bytes(manifest_bytes(manifest))
