"""On the CPU: batches by the numba kernel, ahead of the consumer, in buffers that are used again."""

import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import numpy as np
import torch
from fastcifar.kernels import cpu
from fastcifar.pipelines.resident.store import Store
from numpy.typing import NDArray
from torch import Tensor

from fastcifar.pipeline import Batch, Request

AHEAD = 3  # batches made before they are asked for; more only costs cache
KEPT = 16  # buffers kept for reuse: those ahead, the consumer's, short last batches


class OnHost:
    """Makes batches in threads."""

    def __init__(self, request: Request, workers: int | None = None) -> None:
        """workers: threads, default torch.get_num_threads()."""
        self._request = request
        self._store = Store.of(request.dataset, request.dataset.part(request.split), request.device)
        self._buffers = Buffers()
        self._make(request.ids[:1], 0)  # compile, or load what was compiled, before anybody's clock runs
        self._pool = ThreadPoolExecutor(workers or torch.get_num_threads(), "fastcifar-resident")
        self._next_order: tuple[int, Future[NDArray[np.int64]]] | None = None

    def epoch(self, k: int) -> Iterator[Batch]:
        """The batches of epoch k; those under way are dropped when it is left early."""
        pool, request, size = self._pool, self._request, self._request.share
        ready = self._next_order
        order = ready[1].result() if ready and ready[0] == k else request.order(k)
        starts = iter(range(0, request.batches() * size, size))
        coming: deque[Future[Batch]] = deque()
        try:
            while True:
                while len(coming) < AHEAD and (start := next(starts, None)) is not None:
                    coming.append(pool.submit(self._make, order[start : start + size], k))
                if not coming:
                    break
                yield coming.popleft().result()
            self._next_order = k + 1, pool.submit(request.order, k + 1)
        finally:
            for future in coming:
                future.cancel()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _make(self, ids: NDArray[np.int64], epoch: int) -> Batch:
        request = self._request
        draws = cpu.draw(request.augment, request.seed, epoch, ids)
        images = self._buffers.images(len(ids), request.augment.out_size, request.dtype)
        cpu.apply_rows(self._store.images, ids, draws, request.augment, request.dtype, images, threads=1)
        rows = torch.from_numpy(ids)
        return Batch(images, self._store.labels[rows], rows)


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
