"""The dataset in memory and batches made by the fused kernel, ahead of the consumer, in a ring of reused buffers.

On the CPU by ``kernels/cpu``; on CUDA the dataset lives on the device and ``kernels/reference`` runs there.
"""

import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import numpy as np
import torch
from fastcifar.kernels import cpu, reference
from numpy.typing import NDArray
from torch import Tensor

from fastcifar.errors import UsageError
from fastcifar.pipeline import Batch, Pipeline, Request

AHEAD = 3  # batches made before they are asked for; more only costs cache
KEPT = 16  # buffers kept for reuse: those ahead, the consumer's, short last batches


class ResidentPipeline(Pipeline):
    """Exact: on the CPU and on CUDA every pixel is the reference's to the dtype's rounding."""

    def __init__(self, request: Request, form: str = "", workers: int | None = None) -> None:
        """workers: threads that make batches, default torch.get_num_threads(); any number gives the same batches."""
        super().__init__(request, form)
        part = request.dataset.part(request.split)
        self._on_cpu = request.device.type == "cpu"
        images, labels = np.array(request.dataset.images(part)), request.dataset.labels(part)
        # a test part without labels gives -1, which no class is
        known = np.full(len(images), -1) if labels is None else labels.astype(np.int64)
        self._images = torch.from_numpy(images).to(request.device)
        self._labels = torch.from_numpy(known).to(request.device)
        self._buffers = Buffers()
        self._make(request.ids[:1], 0)  # compile, or load what was compiled, before anybody's clock runs
        workers = (workers or torch.get_num_threads()) if self._on_cpu else 1
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(workers, "fastcifar-resident")
        self._next_order: tuple[int, Future[NDArray[np.int64]]] | None = None

    def epoch(self, k: int) -> Iterator[Batch]:
        if self._pool is None:
            raise UsageError("this pipeline is closed; open another one")
        pool, size = self._pool, self.request.batch_size
        ready = self._next_order
        order = ready[1].result() if ready and ready[0] == k else self.request.order(k)
        starts = iter(range(0, len(self) * size, size))
        coming: deque[Future[Batch]] = deque()
        try:
            while True:
                while len(coming) < AHEAD and (start := next(starts, None)) is not None:
                    coming.append(pool.submit(self._make, order[start : start + size], k))
                if not coming:
                    break
                yield coming.popleft().result()
            self._next_order = k + 1, pool.submit(self.request.order, k + 1)
        finally:
            for future in coming:
                future.cancel()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._next_order = None
        self._buffers = Buffers()
        self._images = self._images[:0]

    def _make(self, ids: NDArray[np.int64], epoch: int) -> Batch:
        request = self.request
        draws = cpu.draw(request.augment, request.seed, epoch, ids)
        rows = torch.from_numpy(ids).to(request.device)
        if self._on_cpu:
            images = self._buffers.images(len(ids), request.augment.out_size, request.dtype)
            cpu.apply_rows(self._images, ids, draws, request.augment, request.dtype, images, threads=1)
        else:
            images = reference.apply(self._images[rows], draws, request.augment, request.dtype)
        return Batch(images, self._labels[rows], rows)


class Buffers:
    """Memory for batches, taken again once nothing refers to it: no tensor, view or saved activation.

    Each tensor is made from a numpy array, whose reference count its storage holds up for as long as it lives.
    """

    def __init__(self) -> None:
        self._arrays: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)]
        self._unused = sys.getrefcount(self._arrays[0])  # what it counts for an array that only the list holds
        self._lock = Lock()

    def images(self, n: int, size: int, dtype: torch.dtype) -> Tensor:
        """(n, 3, size, size) dtype, channels_last, not initialised."""
        n_bytes = n * size * size * 3 * dtype.itemsize
        with self._lock:
            flat = torch.from_numpy(self._take(n_bytes))
        return flat.view(dtype).view(n, size, size, 3).permute(0, 3, 1, 2)

    def _take(self, n_bytes: int) -> NDArray[np.uint8]:
        arrays = self._arrays
        for k in range(len(arrays)):
            if arrays[k].nbytes == n_bytes and sys.getrefcount(arrays[k]) == self._unused:
                return arrays[k]
        array = np.empty(n_bytes, np.uint8)
        if len(arrays) < KEPT:
            arrays.append(array)
        return array


PIPELINE = ResidentPipeline
