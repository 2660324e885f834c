"""Reading and augmenting by FFCV. Importing this module imports FFCV, which takes seconds."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from queue import Empty
from threading import Lock
from typing import Any

import numba
import numpy as np
import torch
from fastcifar.kernels import cpu
from numpy.typing import NDArray
from torch import Tensor

from fastcifar.data.formats.ffcv import threads_kept  # before FFCV: it keeps FFCV from changing thread counts
from fastcifar.pipeline import Batch, Request
from fastcifar.system.buffers import Buffers
from fastcifar.system.transfer import Sent, Transfer, pinned_images

# isort: split
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.loader.epoch_iterator import EpochIterator
from ffcv.transforms import (
    Convert,
    Cutout,
    NormalizeImage,
    RandomBrightness,
    RandomContrast,
    RandomHorizontalFlip,
    RandomSaturation,
    RandomTranslate,
    ToTensor,
    ToTorchImage,
)

AHEAD = 3  # batches that FFCV reads before the consumer asks for them

_compiled: dict[Any, Any] = {}
"""FFCV's compiled graph and code, by the stock operations of a recipe; None is the key of the plain form.

They depend on neither the file nor the batch. Compiling takes a second or more, and megabytes that numba never frees.
"""

_parallel = Lock()
"""A lock held while FFCV's operations run on several threads.

Not all of numba's threading layers may be entered by two callers at once.
"""


class Reader:
    """An FFCV Loader for the split of a request. workers: threads that make pixels. Close it after use."""

    def __init__(self, request: Request, form: str, workers: int) -> None:
        stock = form == "stock"
        part = request.dataset.part(request.split)
        with threads_kept():
            self._loader = loader = Loader(
                str(request.dataset.path / "ffcv" / f"{part}.beton"),
                request.share,
                # threads of each of FFCV's operations; without operations, reading is faster with one thread
                num_workers=min(workers, numba.config.NUMBA_NUM_THREADS) if stock else 1,
                order=OrderOption.SEQUENTIAL,  # not used: each ReadAhead has its own order
                seed=0,
                indices=request.ids,
                batches_ahead=AHEAD,
                pipelines={
                    "image": [SimpleRGBImageDecoder(), *(_stock(request) if stock else [])],
                    "label": [IntDecoder()],
                    "id": None,
                },
            )
        operations = (request.augment, request.dtype, loader.num_workers) if stock else None
        loader.graph, loader.code = _compiled.setdefault(operations, (loader.graph, loader.code))
        self._request, self._transfer = request, Transfer(request.device)
        self._memory = pinned_images if request.device.type == "cuda" else Buffers().images
        self._make = self._keep if stock else self._render
        self._pool = ThreadPoolExecutor(workers, "fastcifar-ffcv")
        self.reading: ReadAhead | None = None
        """The iterator of the latest epoch."""

    def read(self, order: NDArray[np.int64], epoch: int) -> "ReadAhead":
        """Begin to read the ids of ``order`` (N,), with the draws of ``epoch``, and stop the epoch before."""
        if self.reading is not None:
            self.reading.stop()
        self.reading = ReadAhead(self._loader, order, lambda *made: self._pool.submit(self._finish, epoch, *made))
        return self.reading

    def close(self) -> None:
        """End the threads and the transfers to the device."""
        if self.reading is not None:
            self.reading.stop()
            self.reading = None
        self._pool.shutdown(cancel_futures=True)
        self._transfer.close()

    def _finish(self, epoch: int, images: Any, labels: NDArray[np.int64], ids: NDArray[np.int64]) -> Sent:
        """Copy a batch of FFCV out of FFCV's memory, and send it to the device.

        This runs in a thread of our pool. The batch is sent as early as FFCV's own ToDevice would send it in the thread
        that reads.
        """
        pixels = self._make(epoch, images, ids)
        return self._transfer.send(Batch(pixels, torch.from_numpy(labels.copy()), torch.from_numpy(ids)))

    def _render(self, epoch: int, images: NDArray[np.uint8], ids: NDArray[np.int64]) -> Tensor:
        spec, dtype = self._request.augment, self._request.dtype
        draws = cpu.draw(spec, self._request.draw_seed, epoch, ids)
        out = self._memory(len(ids), spec.out_size, dtype)
        return cpu.apply_rows(torch.from_numpy(images), np.arange(len(ids)), draws, spec, dtype, out, threads=1)

    def _keep(self, _: int, images: Tensor, ids: NDArray[np.int64]) -> Tensor:
        if images.dtype == torch.bfloat16:
            return images  # Convert has put it into new memory
        out = self._memory(len(ids), images.shape[-1], images.dtype)
        np.copyto(out.numpy(), images.numpy())  # torch's copy would wait for threads that FFCV's threads block
        return out


class ReadAhead(EpochIterator):
    """FFCV's thread that reads ahead, and the iterator over its batches. The caller may keep the batches.

    The loop of the thread is ours. In FFCV's loop an error ends the thread while the caller waits for ever, and the
    thread counts of torch and numba are set for the whole process.

    FFCV reads the next batch while our threads finish one. It writes to the same memory again AHEAD + 2 batches later.
    It begins that batch only after the caller has received the finished batch and asked for the next one.
    """

    def __init__(self, loader: Any, order: NDArray[np.int64], finish: Callable[..., Future[Sent]]) -> None:
        """Begin to read the ids of ``order``.

        finish: begins to make a Batch from the images that FFCV's last operation gives, their labels and their ids.
        """
        self.finish = finish
        super().__init__(loader, order)

    def run(self) -> None:
        numba.set_num_threads(self.loader.num_workers)  # for this thread only
        slots = self.loader.batches_ahead + 2
        try:
            for number, ids in enumerate(self.iter_ixes):
                with _parallel if self.loader.num_workers > 1 else nullcontext():
                    images, labels = self.run_pipeline(number, ids, number % slots, None)
                self.output_queue.put(self.finish(images, labels[:, 0], ids))
                if self.terminate_event.is_set():
                    return
            self.output_queue.put(None)
        except BaseException as error:
            self.output_queue.put(error)

    def __next__(self) -> Batch:
        made = self.output_queue.get()
        if made is None:
            raise StopIteration
        if isinstance(made, BaseException):
            raise made
        sent: Sent = made.result()
        return sent.received()

    def stop(self) -> None:
        """End the thread."""
        self.terminate_event.set()
        while self.is_alive():
            with suppress(Empty):
                self.output_queue.get_nowait()  # the thread may be waiting for room in the queue
            self.join(0.001)


def _stock(request: Request) -> list[Any]:
    """Return FFCV's operations for a recipe. `FfcvPipeline.refuses` has refused recipes that need other operations."""
    spec, half = request.augment, request.dtype == torch.float16
    operations: list[Any] = [RandomTranslate(spec.crop, (0, 0, 0))] if spec.crop else []
    operations += [RandomHorizontalFlip(spec.flip)] if spec.flip else []
    parts = ((RandomBrightness, spec.brightness), (RandomContrast, spec.contrast), (RandomSaturation, spec.saturation))
    operations += [part(strength, p=1) for part, strength in parts if strength]
    mean, std = (255 * np.array(values) for values in (spec.mean, spec.std))
    operations += [Cutout(spec.cutout, tuple(mean.round().astype(int).tolist()))] if spec.cutout else []
    operations += [NormalizeImage(mean, std, np.float16 if half else np.float32), ToTensor(), ToTorchImage()]
    return operations + ([Convert(torch.bfloat16)] if request.dtype == torch.bfloat16 else [])
