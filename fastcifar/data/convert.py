"""From a source to a dataset directory, whole or not at all.

manifest.json, train.images.npy (N, 32, 32, 3) uint8, train.labels.npy (N,) uint8, split.npy (N,) uint8, the same two
for a labelled test, test.images.npy and test.ids.npy (M,) int64 for Kaggle's; ffcv/ and dali/ when asked for.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from math import sqrt
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastcifar.data.dataset import FORMAT, MANIFEST, VERSION, Dataset, content_hash, files_in, read_manifest, split_of
from fastcifar.data.formats import extra_formats
from fastcifar.data.sources import IMAGE_SHAPE, Source, open_source
from fastcifar.data.sources.files import file_sha256
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.show.progress import track
from fastcifar.system.atomic import neighbour, put_in_place, writing
from fastcifar.version import __version__

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

    source: see ``fastcifar.data.sources.open_source``. formats: any of "raw" (always written), "ffcv", "dali".
    overwrite: replace the dataset that is at ``dest``; it stays until the new one is whole.
    Raises UsageError for what cannot be done as asked, FastcifarError for what failed; either way nothing stays behind.
    """
    extras = extra_formats(formats)
    dest = Path(dest).expanduser()
    dest = dest.resolve() if dest.is_symlink() else dest.absolute()
    _check_destination(dest, overwrite)
    with open_source(source) as images, neighbour(dest) as folder:
        if images.counts["train"] < LEAST:
            raise FastcifarError(
                f"{images.name} has {images.counts['train']} train images; at least {LEAST} are needed"
            )
        histogram = _write_arrays(images, folder, split_seed)
        manifest = _manifest(images, histogram, split_seed, extras)
        _write_manifest(folder, manifest)
        for module in extras.values():
            module.write(Dataset.open(folder))
        if extras:
            _write_manifest(folder, manifest)
        put_in_place(folder, dest, overwrite)
    return Dataset.open(dest)


def _check_destination(dest: Path, overwrite: bool) -> None:
    if not dest.exists():
        return
    if not overwrite:
        raise UsageError(f"{dest} exists; choose another DEST, or replace the dataset there with --overwrite")
    try:
        manifest = read_manifest(dest)
    except FastcifarError as error:
        raise UsageError(f"{error}; --overwrite replaces nothing but datasets: remove {dest} yourself") from error
    if foreign := sorted(files_in(dest) - manifest["files"].keys()):
        raise UsageError(
            f"{dest} holds {foreign[0]!r}, which --overwrite would delete and fastcifar did not write; move it"
        )


def _write_arrays(source: Source, folder: Path, split_seed: int) -> Histogram:
    """Write the .npy files; return the histogram of the train images."""
    histogram = np.zeros((3, 256), np.int64)
    for part, count in source.counts.items():
        labels, seen = np.zeros(count, np.uint8), np.zeros(count, bool)
        path = folder / f"{part}.images.npy"
        with writing(path), open(path, "wb") as file:
            # Plain writes: a full disk is an OSError here, where a memory map would die of SIGBUS.
            start = _write_header(file, np.dtype(np.uint8), (count, *IMAGE_SHAPE))
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


def _write_rows(file: IO[bytes], start: int, rows: NDArray[np.int64], images: NDArray[np.uint8]) -> None:
    """Write images to their rows of the array that begins at byte ``start``, a run of neighbours at a time."""
    order = np.argsort(rows)
    for run in np.split(order, np.flatnonzero(np.diff(rows[order]) != 1) + 1):
        file.seek(start + int(rows[run[0]]) * images[0].nbytes)
        file.write(images[run].tobytes())


def _save(path: Path, array: NDArray[Any]) -> None:
    with writing(path), open(path, "wb") as file:
        _write_header(file, array.dtype, array.shape)
        file.write(array.tobytes())  # np.save would not say that the disk is full, only how much was written


def _write_header(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Begin a .npy file; return how many bytes the header has."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.tell()


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
            "fastcifar": __version__,
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
