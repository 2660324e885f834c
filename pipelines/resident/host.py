"""The resident pipeline on the CPU: numba makes batches ahead of the consumer, in buffers that are used again."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from fastcifar.kernels import cpu
from fastcifar.pipelines.resident.store import Store
from numpy.typing import NDArray

from fastcifar.pipeline import Batch, Request
from fastcifar.system.buffers import Buffers

AHEAD = 3  # batches made before the consumer asks for them; more would only take more cache


class OnHost:
    """The maker of batches in host memory, by threads."""

    def __init__(self, request: Request, workers: int | None = None) -> None:
        """Load the dataset, and compile the kernel. workers: threads, by default torch.get_num_threads()."""
        self._request = request
        self._store = Store.of(request.dataset, request.dataset.part(request.split), request.device)
        self._buffers = Buffers()
        self._make(request.ids[:1], 0)  # compile, or load compiled code, now and not in the first timed epoch
        self._pool = ThreadPoolExecutor(workers or torch.get_num_threads(), "fastcifar-resident")
        self._next_order: tuple[int, Future[NDArray[np.int64]]] | None = None

    def epoch(self, k: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch k, from batch number ``start`` on.

        Batches in progress are dropped when the consumer stops early.
        """
        pool, request, size = self._pool, self._request, self._request.share
        ready = self._next_order
        order = ready[1].result() if ready and ready[0] == k else request.order(k)
        starts = iter(range(start * size, request.batches() * size, size))
        coming: deque[Future[Batch]] = deque()
        try:
            while True:
                while len(coming) < AHEAD and (first := next(starts, None)) is not None:
                    coming.append(pool.submit(self._make, order[first : first + size], k))
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
        draws = cpu.draw(request.augment, request.draw_seed, epoch, ids)
        images = self._buffers.images(len(ids), request.augment.out_size, request.dtype)
        cpu.apply_rows(self._store.images, ids, draws, request.augment, request.dtype, images, threads=1)
        rows = torch.from_numpy(ids)
        return Batch(images, self._store.labels[rows], rows)
