"""Conversion of a source to a dataset directory, which appears whole or not at all.

The directory holds manifest.json, train.images.npy (N, 32, 32, 3) uint8, train.labels.npy (N,) uint8 and split.npy (N,)
uint8. A labelled test part adds test.images.npy and test.labels.npy. Kaggle's test part adds test.images.npy and
test.ids.npy (M,) int64. The optional formats add the folders ffcv/ and dali/.
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

LEAST = 5  # the smallest number of train images that leaves one for validation
Histogram = NDArray[np.int64]  # (3, 256): the number of pixels of each channel with each value


def convert(
    source: str,
    dest: str | Path,
    formats: Sequence[str] = ("raw",),
    split_seed: int = 0,
    overwrite: bool = False,
) -> Dataset:
    """Write the images of a source as a dataset directory at ``dest``, and open it.

    source: see ``fastcifar.data.sources.open_source``. formats: any of "raw" (always written), "ffcv", "dali".
    overwrite: replace the dataset at ``dest``; the old one stays until the new one is complete.
    Raises UsageError for arguments that cannot work, FastcifarError for a failed conversion. After an error, no
    incomplete dataset is left.
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
    """Raise UsageError if a dataset must not be written at ``dest``."""
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
            # Plain writes raise OSError on a full disk; a memory map would end the process with SIGBUS.
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
                f"{source.name} gave {seen.sum():,} of its {count:,} {part} images; "
                "convert it again, and do not change it meanwhile"
            )
        if part == "test" and source.test_ids is not None:
            _save(folder / "test.ids.npy", source.test_ids)
        else:
            _save(folder / f"{part}.labels.npy", labels)
    _save(folder / "split.npy", split_of(source.counts["train"], split_seed))
    return histogram


def _write_rows(file: IO[bytes], start: int, rows: NDArray[np.int64], images: NDArray[np.uint8]) -> None:
    """Write images to their rows of the array that begins at byte ``start``, with one write per run of neighbours."""
    order = np.argsort(rows)
    for run in np.split(order, np.flatnonzero(np.diff(rows[order]) != 1) + 1):
        file.seek(start + int(rows[run[0]]) * images[0].nbytes)
        file.write(images[run].tobytes())


def _save(path: Path, array: NDArray[Any]) -> None:
    with writing(path), open(path, "wb") as file:
        _write_header(file, array.dtype, array.shape)
        file.write(array.tobytes())  # the error of np.save would not name a full disk, only the number of items written


def _write_header(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Write the header of a .npy file; return its size in bytes."""
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
        "sha256": None,  # _write_manifest sets sha256 and files
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
    """Return the mean and standard deviation of pixels scaled to [0, 1].

    counts: (256,) the number of pixels with each value in [0, 255]. All steps but the last use integers.
    """
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
