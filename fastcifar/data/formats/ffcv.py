"""FFCV's format: ``ffcv/train.beton`` and ``ffcv/test.beton`` with the fields image (raw RGB), label and id (int64).

The id is the image's row in its part; the label is -1 if the part has no labels. FFCV's own writer and Loader
are used.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ctypes import c_uint64
from importlib import metadata
from multiprocessing import Value
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import torch

from fastcifar.data.dataset import Dataset
from fastcifar.data.formats.samples import I64, U8, Samples
from fastcifar.show.progress import track
from fastcifar.system.atomic import writing

BATCH = 1024  # images read back at a time


@contextmanager
def threads_kept() -> Iterator[None]:
    """Restore the thread counts of torch and numba, which FFCV changes at import and in every Loader."""
    threads = torch.get_num_threads(), numba.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads[0])
        numba.set_num_threads(threads[1])


with threads_kept():
    from ffcv.fields import IntField, RGBImageField
    from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.memory_allocator import MemoryAllocator
    from ffcv.writer import DatasetWriter


def version() -> str:
    """Return the version of FFCV, which writes the files."""
    return metadata.version("ffcv")


def write(dataset: Dataset) -> None:
    """Write ``ffcv/<part>.beton`` for each part, read it back and compare. Raises FastcifarError if they differ."""
    (dataset.path / "ffcv").mkdir()
    for part in dataset.manifest["counts"]:
        path = dataset.path / "ffcv" / f"{part}.beton"
        fields = {"image": RGBImageField(write_mode="raw"), "label": IntField(), "id": IntField()}
        samples = Samples(dataset, part)
        with writing(path):
            _Writer(str(path), fields, num_workers=1).from_indexed_dataset(samples)
        with threads_kept():
            samples.compare(path, np.arange(len(samples)), _read(path))


class _Writer(DatasetWriter):
    """FFCV's writer, with its worker in this process.

    FFCV waits forever for its worker processes, even if one has ended because the disk is full. In this process, the
    worker's errors are raised. FFCV also ignores incomplete unbuffered writes, so the size of the file is checked.
    """

    metadata_sm: Any

    def _write_common(self, num_samples: int, queue_content: Iterable[Any], work: Any, work_args: tuple[Any]) -> None:
        self.num_samples = num_samples
        self.prepare()
        self.metadata_sm.close()  # shared memory, which a single process does not need
        self.metadata_sm.unlink()
        self.metadata_sm = SimpleNamespace(buf=bytearray(num_samples * self.metadata_type.itemsize))
        allocator = MemoryAllocator(self.fname, self.data_region_start, self.page_size)
        allocations: list[Any] = []
        chunks = track(list(queue_content), f"writing {Path(self.fname).name}")
        todo, done = SimpleNamespace(get=lambda: next(chunks, None)), SimpleNamespace(put=allocations.extend)
        work(todo, self.metadata_sm, self.metadata_type, self.fields, allocator, Value(c_uint64), done, *work_args)
        if os.path.getsize(self.fname) != allocator.offset + allocator.next_page_written.value * self.page_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.fname)
        self.finalize(allocations)


def _read(path: Path) -> Iterator[tuple[U8, I64, I64]]:
    """Yield batches (images, labels, ids) from FFCV's Loader.

    images: (n, 32, 32, 3) uint8. labels, ids: (n,) int64.
    """
    pipelines = {"image": [SimpleRGBImageDecoder()], "label": [IntDecoder()], "id": [IntDecoder()]}
    loader = Loader(
        str(path), BATCH, num_workers=1, order=OrderOption.SEQUENTIAL, drop_last=False, seed=0, pipelines=pipelines
    )
    for images, labels, ids in loader:
        yield images, labels[:, 0], ids[:, 0]
