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
from fastcifar.show.console import note
from fastcifar.show.progress import track
from fastcifar.show.text import counted
from fastcifar.system import shm
from fastcifar.system.atomic import writing
from fastcifar.system.once import tell
from fastcifar.system.scratch import Scratch, mark_processes
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

        workers: processes, by default torch.get_num_threads(). Any number gives the same batches. Where shared memory
        has no room for their batches, there are fewer processes, or this process makes the batches itself, and the user
        is told. Raises UsageError for fewer than one worker, FastcifarError where the PNG files cannot be written.
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
        mark_processes()
        context = get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._order, self._transfer = _Order(request), Transfer(request.device)
        self._workers, prefetched = self._fitting(workers)
        in_processes: dict[str, Any] = {}
        if self._workers:
            in_processes = {
                "persistent_workers": True,
                "multiprocessing_context": context,
                "prefetch_factor": prefetched,
            }
        self._loader: DataLoader[Any] | None = DataLoader(
            _Samples(request, self._folder.name if self._folder else None),  # type: ignore[arg-type]
            batch_sampler=self._order,  # type: ignore[arg-type]
            num_workers=self._workers,
            pin_memory=request.device.type == "cuda",
            generator=torch.Generator(),  # for the workers' seeds, not used here: the global one must not advance
            **in_processes,
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
            if shm.is_lacking(error):
                self.close()
                size = f"{self._batch_bytes() / shm.MIB:,.1f} MiB"
                raise FastcifarError(
                    f"shared memory is full: a worker process cannot put a batch of {size} into {shm.SHARED}; start "
                    f"the container with {self._cure()}, or choose a smaller batch or fewer threads"
                ) from error
            if not self._ended_worker():
                raise  # every worker process is alive, so the error was raised in one of them
            self.close()
            raise FastcifarError(
                f"a worker process ended ({str(error) or type(error).__name__}), perhaps because memory or /dev/shm "
                f"was full; choose a smaller batch or fewer threads, or start the container with {self._cure()}"
            ) from error

    def _ended_worker(self) -> bool:
        """Return whether a worker process has ended, or ends within a second."""
        workers = self._batches._workers if self._batches is not None and self._workers else []
        return bool(wait([worker.sentinel for worker in workers], timeout=1)) if workers else False

    def _batch_bytes(self) -> int:
        """Return the shared memory that a batch takes, in bytes: images, labels and ids."""
        n, image = self.request.share, 3 * self.request.augment.out_size**2 * self.request.dtype.itemsize
        return shm.padded(n * image, 8 * n, 8 * n)

    def _cure(self) -> str:
        return shm.cure(shm.needed_bytes(self._workers, shm.PREFETCHED, self._batch_bytes(), len(self)))

    def _fitting(self, wanted: int) -> tuple[int, int]:
        """Return the number of workers, at most ``wanted``, and the number of batches that each makes ahead.

        Both are smaller than usual where shared memory has no room for more; the user is told then.
        """
        batch, free = self._batch_bytes(), shm.free_bytes()
        workers, prefetched = shm.fitting(wanted, batch, len(self), free)
        if free is not None and (workers, prefetched) != (wanted, shm.PREFETCHED):
            needed = shm.needed_bytes(wanted, shm.PREFETCHED, batch, len(self))
            makers = counted(workers, "worker") if workers else "no worker, but this process itself,"
            self.hindered = (
                f"{counted(wanted, 'worker')} would fill {needed / shm.MIB:,.1f} MiB of shared memory with batches, "
                f"and {free / shm.MIB:,.1f} MiB are free in {shm.SHARED}, so {makers} will make them, which may be "
                f"slower; {shm.cure(needed)} gives a container enough"
            )
            tell("shm", f"pipeline torchvision: {self.hindered}", note)
        return workers, prefetched

    def close(self) -> None:
        if self._batches is not None and self._workers:
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


def _pngs(request: Request, threads: int) -> Scratch:
    """Write each image of the split as ``<id>.png`` to a folder, in the directory of temporary files (TMPDIR)."""
    images, folder = (
        request.dataset.images(request.dataset.part(request.split)),
        Scratch(),
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
