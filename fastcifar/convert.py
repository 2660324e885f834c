"""From a source to a dataset directory, whole or not at all.

manifest.json, train.images.npy (N, 32, 32, 3) uint8, train.labels.npy (N,) uint8, split.npy (N,) uint8, the same two
for a labelled test, test.images.npy and test.ids.npy (M,) int64 for Kaggle's; ffcv/ and dali/ when asked for.
"""

import errno
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from math import sqrt
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastcifar
from fastcifar.dataset import FORMAT, MANIFEST, VERSION, Dataset, content_hash, files_in, read_manifest, split_of
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.formats import extra_formats
from fastcifar.progress import track
from fastcifar.sources import IMAGE_SHAPE, Source, open_source
from fastcifar.sources.files import file_sha256

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the quota, the limit on a file's size
LEAST = 5  # images: the fewest that leave one for validation
Histogram = NDArray[np.int64]  # (3, 256): how many pixels of each channel have each value


def convert(
    source: str,
    dest: str | Path,
    formats: Sequence[str] = ("raw",),
    split_seed: int = 0,
    overwrite: bool = False,
) -> Dataset:
    """Write the source's images as a dataset directory at ``dest`` and open it.

    source: see ``fastcifar.sources.open_source``. formats: any of "raw" (always written), "ffcv", "dali".
    overwrite: replace the dataset that is at ``dest``; it stays until the new one is whole.
    Raises UsageError for what cannot be done as asked, FastcifarError for what failed; either way nothing stays behind.
    """
    extras = extra_formats(formats)
    dest = Path(dest).expanduser()
    dest = dest.resolve() if dest.is_symlink() else dest.absolute()
    _check_destination(dest, overwrite)
    with open_source(source) as images, _neighbour(dest) as folder:
        if images.counts["train"] < LEAST:
            raise FastcifarError(
                f"{images.name} has {images.counts['train']} train images; at least {LEAST} are needed"
            )
        histogram = _write_arrays(images, folder, split_seed)
        manifest = _manifest(images, histogram, split_seed, extras)
        _write_manifest(folder, manifest)
        for name, module in extras.items():
            with writing(folder / name):
                module.write(Dataset.open(folder))
        if extras:
            _write_manifest(folder, manifest)
        with writing(folder):
            _sync(folder)
        with writing(dest):
            _put_in_place(folder, dest, overwrite)
    return Dataset.open(dest)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into a FastcifarError that names what was being written."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise FastcifarError(
                f"disk full while writing {path} ({error.strerror}); free some space, or choose a DEST on another disk"
            ) from error
        raise FastcifarError(f"cannot write {path}: {error}") from error


def _check_destination(dest: Path, overwrite: bool) -> None:
    if not dest.exists():
        return
    if not overwrite:
        raise UsageError(f"{dest} exists; choose another DEST, or replace the dataset there with --overwrite")
    manifest = read_manifest(dest)  # raises UsageError for what is no dataset: that is never deleted
    if foreign := sorted(files_in(dest) - manifest["files"].keys()):
        raise UsageError(
            f"{dest} holds {foreign[0]!r}, which --overwrite would delete and fastcifar did not write; move it"
        )


@contextmanager
def _neighbour(dest: Path) -> Iterator[Path]:
    """A new directory beside ``dest``, gone in the end unless it was renamed; so are parents made for nothing."""
    parents = [parent for parent in dest.parents if not parent.exists()]
    folder = dest.parent / f".{dest.name}.{secrets.token_hex(4)}.partial"
    try:
        with writing(folder):
            folder.mkdir(parents=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not dest.exists():
            for parent in parents:
                if parent.exists() and not any(parent.iterdir()):
                    parent.rmdir()


def _write_arrays(source: Source, folder: Path, split_seed: int) -> Histogram:
    """Write the .npy files; return the histogram of the train images."""
    histogram = np.zeros((3, 256), np.int64)
    for part, count in source.counts.items():
        labels, seen = np.zeros(count, np.uint8), np.zeros(count, bool)
        path = folder / f"{part}.images.npy"
        with writing(path), open(path, "wb") as file:
            # Plain writes: a full disk is an OSError here, where a memory map would die of SIGBUS.
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": (count, *IMAGE_SHAPE)}
            )
            start = file.tell()
            chunks = track(source.chunks(part), f"reading {part} images", count, lambda chunk: len(chunk.rows))
            for chunk in chunks:
                _write_rows(file, start, chunk.rows, chunk.images)
                seen[chunk.rows] = True
                if chunk.labels is not None:
                    labels[chunk.rows] = chunk.labels
                if part == "train":
                    for channel in range(3):
                        histogram[channel] += np.bincount(chunk.images[..., channel].ravel(), minlength=256)
        if not seen.all():
            raise FastcifarError(
                f"{source.name} gave {seen.sum():,} of its {count:,} {part} images; did it change meanwhile?"
            )
        if part == "test" and source.test_ids is not None:
            _save(folder / "test.ids.npy", source.test_ids)
        else:
            _save(folder / f"{part}.labels.npy", labels)
    _save(folder / "split.npy", split_of(source.counts["train"], split_seed))
    return histogram


def _write_rows(file: Any, start: int, rows: NDArray[np.int64], images: NDArray[np.uint8]) -> None:
    """Write images to their rows of the array that begins at byte ``start``, a run of neighbours at a time."""
    order = np.argsort(rows)
    for run in np.split(order, np.flatnonzero(np.diff(rows[order]) != 1) + 1):
        file.seek(start + int(rows[run[0]]) * images[0].nbytes)
        file.write(images[run].tobytes())


def _save(path: Path, array: NDArray[Any]) -> None:
    with writing(path):
        np.save(path, array, allow_pickle=False)


def _manifest(
    source: Source, histogram: Histogram, split_seed: int, extras: Mapping[str, ModuleType]
) -> dict[str, Any]:
    mean, std = zip(*map(_mean_std, histogram), strict=True)
    return {
        "format": FORMAT,
        "version": VERSION,
        "sha256": None,  # this and the files are filled in as the manifest is written
        "classes": list(source.classes),
        "counts": dict(source.counts),
        "image_shape": list(IMAGE_SHAPE),
        "mean": mean,
        "std": std,
        "source": {"name": source.name, "sha256": source.sha256()},
        "split_seed": split_seed,
        "formats": ["raw", *extras],
        "tools": {
            "fastcifar": fastcifar.__version__,
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "pillow": version("pillow"),
            **{name: module.version() for name, module in extras.items()},
        },
        "files": {},
    }


def _mean_std(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Of pixel values in [0, 1], from how many there are of each value in [0, 255]; integers until the last step."""
    n = sum(map(int, counts))
    total = sum(value * int(count) for value, count in enumerate(counts))
    squares = sum(value * value * int(count) for value, count in enumerate(counts))
    return total / (255 * n), sqrt(n * squares - total * total) / (255 * n)


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    for name in sorted(files_in(folder) - manifest["files"].keys()):
        manifest["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
    manifest["sha256"] = content_hash(manifest["files"], manifest["classes"])
    with writing(folder / MANIFEST):
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _sync(folder: Path) -> None:
    """Have everything in ``folder`` on the disk before its name is."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _put_in_place(folder: Path, dest: Path, overwrite: bool) -> None:
    """Rename ``folder`` to ``dest``; what was there steps aside first, and comes back should the renaming fail."""
    old = folder.with_suffix(".old")
    try:
        if overwrite and dest.exists():
            dest.rename(old)
        folder.rename(dest)
    except BaseException:
        if old.exists() and not dest.exists():
            old.rename(dest)
        raise
    shutil.rmtree(old, ignore_errors=True)
