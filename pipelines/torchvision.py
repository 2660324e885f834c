"""The pipeline that most people use: torch's DataLoader with worker processes, and torchvision's operations for each
sample.

The plain form reads the memory-mapped arrays of the dataset directory. The form ``png`` decodes one PNG file for each
sample, like training from a folder of images. Draws and order are ours, so any number of workers gives the same
batches.

Workers come from a fork server, which is a process without threads. A fork of this process could wait for ever for a
lock that a thread of torch, numba or another pipeline held. As always with a fork server, a script that opens this
pipeline must do so under ``if __name__ == "__main__"``.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib import import_module
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

PRELOADED = ["torchvision.transforms.v2.functional"]  # the fork server imports it once for all workers


class TorchvisionPipeline(Pipeline):
    """The pipeline ``torchvision``. It is exact unless the recipe rotates.

    For a rotation torchvision computes the nearest source pixel in float32. It takes a neighbour for some pixels that
    lie midway (`kernels.torchvision.rotation_ties`), fewer than one in 10,000.

    Only one epoch at a time is possible: beginning an epoch ends the one before.
    """

    forms = ("", "png")
    shares = True
    deviating = 0.0

    def __init__(self, request: Request, form: str = "", workers: int | None = None) -> None:
        """Write the PNG files of the form ``png``, and make the DataLoader.

        workers: processes, by default torch.get_num_threads(). Any number gives the same batches. Raises UsageError for
        fewer than one worker, FastcifarError where the PNG files cannot be written.
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
        """The seconds that writing the PNG files took."""
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
            generator=torch.Generator(),  # for the workers' seeds, not used here: the global one must not advance
        )
        self._batches: Any = None
        self._turn: object = None  # marks the current epoch

    @classmethod
    def missing(cls, form: str) -> str | None:
        """Return why torchvision cannot be used here and the cure, or None.

        This imports torchvision, which takes a second, because only the import shows whether it works with torch.
        """
        try:
            import_module("fastcifar.system.vision")
        except UsageError as error:
            return str(error)
        return None

    def epoch(self, k: int, start: int = 0) -> Iterator[Batch]:
        if self._loader is None:
            raise UsageError("this pipeline is closed; open another one")
        self._order.epoch, self._order.start, self._turn = k, start, (turn := object())
        try:
            self._batches = iter(self._loader)
            for images, labels, ids in self._batches:
                yield self._transfer.send(Batch(images.permute(0, 3, 1, 2), labels, ids)).received()
                if self._turn is not turn:
                    raise UsageError("this epoch is over, as another was begun or the pipeline closed; begin it again")
        except (RuntimeError, OSError, EOFError) as error:  # raised by torch, or by its connection to the worker
            if self._batches is None or not wait([worker.sentinel for worker in self._batches._workers], timeout=1):
                raise  # every worker process is alive, so the error was raised in one of them
            self.close()
            raise FastcifarError(
                f"a worker process ended ({str(error) or type(error).__name__}), perhaps because memory or /dev/shm "
                "was full; choose a smaller batch or fewer threads"
            ) from error

    def close(self) -> None:
        if self._batches is not None:
            # DataLoader does this when the last reference to its iterator ends, but a traceback may still hold one.
            self._batches._shutdown_workers()
        self._loader = self._batches = self._turn = None
        self._transfer.close()
        if self._folder is not None:
            self._folder.cleanup()


class _Order:
    """The batch sampler of DataLoader. It gives the epoch and the ids (B,) of each batch, from batch ``start`` on."""

    def __init__(self, request: Request) -> None:
        self.request, self.epoch, self.start = request, 0, 0

    def __len__(self) -> int:
        return max(0, self.request.batches() - self.start)

    def __iter__(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        size, order, epoch = self.request.share, self.request.order(self.epoch), self.epoch
        for first in range(self.start * size, self.request.batches() * size, size):
            yield epoch, order[first : first + size]


class _Samples:
    """The dataset of DataLoader, which is sent to the workers. It makes samples, and DataLoader stacks them."""

    def __init__(self, request: Request, folder: str | None) -> None:
        self.dataset, self.part = request.dataset, request.dataset.part(request.split)
        self.augment, self.seed, self.dtype, self.folder = request.augment, request.draw_seed, request.dtype, folder

    def __getitems__(self, batch: tuple[int, NDArray[np.int64]]) -> list[tuple[Tensor, int, int]]:
        """Return a list of image (S, S, 3) of the request's dtype, label and id. batch: epoch and ids (B,)."""
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
        return Samples(self.dataset, self.part)  # each worker maps the file itself


def _pngs(request: Request, threads: int) -> TemporaryDirectory[str]:
    """Write each image of the split as ``<id>.png`` to a folder, in the directory of temporary files (TMPDIR)."""
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
