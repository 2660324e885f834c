"""The sources of images and labels, in the order of an epoch: DALI's reader of a TFRecord file, or memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, pipeline_def, tfrecord

from fastcifar.data.formats.samples import I64, U8, Samples
from fastcifar.data.sources.source import IMAGE_SHAPE
from fastcifar.errors import FastcifarError
from fastcifar.pipeline import Request
from fastcifar.system.atomic import writing
from fastcifar.system.scratch import Scratch

Read = dict[str, NDArray[Any]]
"""A batch as it is stored: image (B, 32, 32, 3) uint8, label and id (B, 1) int64."""


class Memory:
    """The images and labels of the request's part, copied into memory."""

    def __init__(self, request: Request) -> None:
        samples = Samples(request.dataset, request.dataset.part(request.split))
        self._images: U8 = np.array(samples.images)
        self._labels, self._size = samples.labels[:, None], request.share

    def read(self, order: I64) -> Iterator[Read]:
        """Yield the samples in batches. order: (N,) their ids."""
        for start in range(0, len(order), self._size):
            ids = order[start : start + self._size]
            yield {"image": self._images[ids], "label": self._labels[ids], "id": ids[:, None]}


class Records:
    """The TFRecord file of the request's part, and the lines of its index, "offset size" for each record.

    threads: the number of threads of DALI's reader. Raises FastcifarError where the index cannot be read.
    """

    def __init__(self, request: Request, threads: int) -> None:
        part, folder = request.dataset.part(request.split), request.dataset.path / "dali"
        self.path, index = folder / f"{part}.tfrecord", folder / f"{part}.idx"
        try:
            lines = np.array(index.read_bytes().splitlines())
        except OSError as error:
            raise FastcifarError(f"cannot read {index}: {error}") from error
        # Spaces, which the reader skips, give all lines one length, so that one indexing operation orders them.
        self._lines = np.char.add(np.char.ljust(lines, lines.itemsize), b"\n")
        self._options = {"batch_size": request.share, "num_threads": threads, "device_id": None}

    def read(self, order: I64) -> Iterator[Read]:
        """Yield the samples like `Memory.read`. DALI's reader is built at once, and reads a batch when it is needed."""
        with Scratch() as folder:
            index = Path(folder) / "epoch.idx"
            with writing(index):
                index.write_bytes(self._lines[order].tobytes())
            return _Reader(self.path, index, self._options)


class _Reader:
    """The batches of one epoch from DALI's reader, which reads its order from an index file when it is built."""

    def __init__(self, path: Path, index: Path, options: dict[str, Any]) -> None:
        number = tfrecord.FixedLenFeature([1], tfrecord.int64, -1)
        features = {"image": tfrecord.FixedLenFeature([], tfrecord.string, ""), "label": number, "id": number}

        @pipeline_def(**options)
        def graph() -> tuple[Any, ...]:
            read: Any = fn.readers.tfrecord(path=str(path), index_path=str(index), features=features)
            return tuple(read[name] for name in features)

        self._names, self._dali = tuple(features), graph()
        self._dali.build()

    def __iter__(self) -> Iterator[Read]:
        return self

    def __next__(self) -> Read:
        read = {
            name: np.asarray(output.as_tensor()) for name, output in zip(self._names, self._dali.run(), strict=True)
        }
        return read | {"image": read["image"].reshape(-1, *IMAGE_SHAPE)}
