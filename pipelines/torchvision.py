"""What most people run: torch's DataLoader, its worker processes, and torchvision's operations sample by sample.

The plain form reads the dataset directory's memory-mapped arrays. The form ``png`` decodes one PNG file a sample, as
people do who start from a folder of images. Draws and order are ours, so the number of workers changes nothing.

Workers come from a fork server, a process without threads: a copy of this process, full of the threads of torch,
numba and other pipelines, might wait for ever on a lock that one of them held. As wherever Python starts processes so,
a script that opens this pipeline does it under ``if __name__ == "__main__"``.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from fastcifar.augment import draw
from fastcifar.data.formats.samples import Samples
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.pipeline import Batch, Pipeline, Request
from fastcifar.show.progress import track
from fastcifar.system.atomic import writing
from fastcifar.system.transfer import Transfer

PRELOADED = ["torchvision.transforms.v2.functional"]  # by the fork server, so that each worker need not


class TorchvisionPipeline(Pipeline):
    """Exact unless the recipe rotates: then torchvision computes in float32 which source pixel is nearest, and takes
    its neighbour for some that lie midway (`kernels.torchvision.rotation_ties`), fewer than one in 10,000.

    One epoch at a time: beginning another ends the one before.
    """

    forms = ("", "png")
    deviating = 0.0

    def __init__(self, request: Request, form: str = "", workers: int | None = None) -> None:
        """workers: processes, default torch.get_num_threads(); any number gives the same batches.

        Raises UsageError for less than one, FastcifarError where the PNG files cannot be written.
        """
        super().__init__(request, form)
        workers = torch.get_num_threads() if workers is None else workers
        if workers < 1:
            raise UsageError(f"{workers} workers; at least 1 is needed")
        if request.augment.rotate:
            self.differs = "rotation: float32 coordinates choose the neighbour for fewer than one pixel in 10,000"
            self.deviating = 1e-4
        start = time.perf_counter()
        self._folder = _pngs(request, workers) if form == "png" else None
        self.build_seconds = time.perf_counter() - start
        """how long writing the PNG files took"""
        context = get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._order, self._transfer = _Order(request), Transfer(request.device)
        self._loader: DataLoader[Any] | None = DataLoader(
            _Samples(request, self._folder.name if self._folder else None),  # type: ignore[arg-type]
            batch_sampler=self._order,  # type: ignore[arg-type]
            num_workers=workers,
            persistent_workers=True,
            pin_memory=request.device.type == "cuda",
            multiprocessing_context=context,
            generator=torch.Generator(),  # for its workers' seeds, of no use here: the global one must not move
        )
        self._batches: Any = None
        self._turn: object = None  # whose epoch it is

    def epoch(self, k: int) -> Iterator[Batch]:
        if self._loader is None:
            raise UsageError("this pipeline is closed; open another one")
        self._order.epoch, self._turn = k, (turn := object())
        try:
            self._batches = iter(self._loader)
            for images, labels, ids in self._batches:
                yield self._transfer.send(Batch(images.permute(0, 3, 1, 2), labels, ids)).received()
                if self._turn is not turn:
                    raise UsageError("this epoch is over, as another was begun or the pipeline closed")
        except (RuntimeError, OSError, EOFError) as error:  # what torch says, or its connection to the worker
            if self._batches is None or not wait([worker.sentinel for worker in self._batches._workers], timeout=1):
                raise  # every process is there, so it is an error that one of them met
            self.close()
            raise FastcifarError(
                f"a worker process ended ({str(error) or type(error).__name__}), perhaps killed for want of memory "
                "or of room in /dev/shm: try a smaller batch or fewer threads"
            ) from error

    def close(self) -> None:
        if self._batches is not None:
            # what DataLoader does once nothing refers to its iterator any more, but some traceback may
            self._batches._shutdown_workers()
        self._loader = self._batches = self._turn = None
        self._transfer.close()
        if self._folder is not None:
            self._folder.cleanup()


class _Order:
    """DataLoader's batch sampler: the epoch with the ids of each batch."""

    def __init__(self, request: Request) -> None:
        self.request, self.epoch = request, 0

    def __len__(self) -> int:
        return self.request.batches()

    def __iter__(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        size, order = self.request.batch_size, self.request.order(self.epoch)
        for start in range(0, len(self) * size, size):
            yield self.epoch, order[start : start + size]


class _Samples:
    """DataLoader's dataset, sent to the workers: makes the samples of a batch, for DataLoader to stack."""

    def __init__(self, request: Request, folder: str | None) -> None:
        self.dataset, self.part = request.dataset, request.dataset.part(request.split)
        self.augment, self.seed, self.dtype, self.folder = request.augment, request.seed, request.dtype, folder

    def __getitems__(self, batch: tuple[int, NDArray[np.int64]]) -> list[tuple[Tensor, int, int]]:
        """(S, S, 3) images of the asked dtype, labels and ids."""
        from fastcifar.kernels.torchvision import apply_one  # takes seconds to import, and only the workers need it

        epoch, ids = batch
        draws = draw(self.augment, self.seed, epoch, ids)
        made = []
        for n, row in enumerate(ids.tolist()):
            image, label, _ = self._stored[row]
            if self.folder is not None:
                with Image.open(f"{self.folder}/{row}.png") as file:
                    image = np.array(file)
            pixels = apply_one(torch.from_numpy(np.array(image)), draws, n, self.augment)
            made.append((pixels.to(self.dtype).permute(1, 2, 0), label, row))
        return made

    @cached_property
    def _stored(self) -> Samples:
        return Samples(self.dataset, self.part)  # mapped by each worker for itself


def _pngs(request: Request, threads: int) -> TemporaryDirectory[str]:
    """A folder with each image of the split as ``<id>.png``, where temporary files are kept (TMPDIR)."""
    images, folder = (
        request.dataset.images(request.dataset.part(request.split)),
        TemporaryDirectory(prefix="fastcifar-"),
    )

    def write(row: int) -> None:
        Image.fromarray(images[row]).save(f"{folder.name}/{row}.png")

    try:
        with writing(Path(folder.name)), ThreadPoolExecutor(threads) as pool:
            for _ in track(pool.map(write, request.ids.tolist()), "writing PNG files", len(request.ids)):
                pass
    except BaseException:
        folder.cleanup()
        raise
    return folder


PIPELINE = TorchvisionPipeline
