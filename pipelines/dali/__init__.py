"""NVIDIA DALI: its operators on the GPU or the CPU, with arguments from our draws for each sample.

In the plain form DALI's reader reads a TFRecord file. The form ``memory`` reads from memory. The form ``stock`` is the
plain form with DALI's own colour operator.
"""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fastcifar.augment import Augment
from fastcifar.data.formats.samples import I64
from fastcifar.errors import UsageError
from fastcifar.pipeline import Batch, Pipeline, Request
from fastcifar.system import cures
from fastcifar.system.buffers import Buffers

if TYPE_CHECKING:
    from fastcifar.pipelines.dali.reading import Read

    Prepared = tuple[I64, Iterator[Read]]  # the ids of an epoch and an iterator over its samples

INSTALL = cures.extra("dali")


class DaliPipeline(Pipeline):
    """The pipeline ``dali``. It equals the reference to rounding, except for rotation.

    For a rotation DALI computes the nearest source pixel in float32. It may take a neighbour for pixels that lie
    midway, fewer than one in 10,000. DALI's contrast, saturation and hue are defined differently from torchvision's, so
    they are built from DALI's smaller operators.

    The form ``stock`` uses DALI's ``color_twist`` for colours and differs much from the reference: hue turns about grey
    in YIQ, contrast is about mid-grey, the order is fixed, and values are not clamped to [0, 1].

    The order of DALI's reader is fixed once it is built. So the reader is a separate DALI pipeline. It is built for
    each epoch during the epoch before. The DALI pipeline of the operators lives as long as this object.

    Only one epoch at a time is possible: beginning an epoch ends the one before.
    """

    forms = ("", "memory", "stock")
    shares = True
    deviating = 0.0

    def __init__(self, request: Request, form: str = "", workers: int | None = None) -> None:
        """Build the operators and the reader of epoch 0.

        workers: DALI's threads, by default torch.get_num_threads(). Any number gives the same batches. Raises
        UsageError for fewer than one worker, FastcifarError where DALI fails.
        """
        super().__init__(request, form)
        workers = torch.get_num_threads() if workers is None else workers
        if workers < 1:
            raise UsageError(f"{workers} workers; at least 1 is needed")
        start = time.perf_counter()
        from fastcifar.pipelines.dali.operators import Operators
        from fastcifar.pipelines.dali.reading import Memory, Records

        self.differs, self.deviating = _differs(request.augment, form)
        self._samples: Any = Memory(request) if form == "memory" else Records(request, workers)
        self._operators = Operators(request, form == "stock", workers)
        self._buffers = Buffers()
        self._turn: object = None  # marks the current epoch
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(1, "fastcifar-dali")
        self._next: tuple[int, Future[Prepared]] | None = 0, self._pool.submit(self._prepare, 0)
        wait([self._next[1]])
        self.build_seconds = time.perf_counter() - start
        """The seconds that loading DALI and building took."""

    @classmethod
    def missing(cls, form: str) -> str | None:
        """Return why DALI cannot be used here and the cure, or None.

        This imports DALI, which takes half a second, because only the import shows whether DALI loads.
        """
        try:
            import_module("nvidia.dali.fn")
        except ImportError as error:
            return f"DALI does not load ({error}): {INSTALL}"
        return None

    @classmethod
    def refuses(cls, request: Request, form: str) -> str | None:
        if request.device.type not in ("cpu", "cuda"):
            return f"DALI works on cpu and cuda, not on {request.device}"
        name = f"dali/{request.dataset.part(request.split)}.tfrecord"
        if form != "memory" and name not in request.dataset.manifest["files"]:
            return f"{request.dataset.path} has no {name}; {request.dataset.cure_for_format('dali')}"
        return None

    def epoch(self, k: int, start: int = 0) -> Iterator[Batch]:
        if self._pool is None:
            raise UsageError("this pipeline is closed; open another one")
        self._turn = turn = object()
        try:
            self._operators.rewind()
            ready, self._next = self._next, None
            at_hand = ready is not None and ready[0] == k and not start
            prepared = ready[1] if ready and at_hand else self._pool.submit(self._prepare, k, start)
            self._operators.begin(*prepared.result(), k)
            self._next = k + 1, self._pool.submit(self._prepare, k + 1)
            share = self.request.share
            for left in range(self.request.samples - start * share, 0, -share)[: max(0, len(self) - start)]:
                yield self._batch(left)
                if self._turn is not turn:
                    raise UsageError("this epoch is over, as another was begun or the pipeline closed; begin it again")
        finally:
            if self._turn is turn:
                self._operators.rewind()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = self._next = self._samples = self._turn = None
            self._buffers = Buffers()
            self._operators.close()

    def _prepare(self, k: int, start: int = 0) -> "Prepared":
        """Return the ids of epoch ``k`` from batch ``start`` on, filled up to whole batches, and their samples.

        DALI's reader gives whole batches only.
        """
        share, order = self.request.share, self.request.order(k)
        begin = min(start * share, len(order) - 1)
        order = np.resize(order[begin:], max(1, len(self) - start) * share)
        return order, self._samples.read(order)

    def _batch(self, left: int) -> Batch:
        """Return DALI's next batch. left: samples that the epoch still has; the batch has no more than these."""
        images, labels, ids = (values[:left] for values in self._operators.batch())
        return Batch(self._cast(images.permute(0, 3, 1, 2)), labels[:, 0], ids[:, 0])

    def _cast(self, images: Tensor) -> Tensor:
        """Cast images that DALI did not cast to the request's dtype.

        On the CPU the result is in memory that is used again, because new pages cost more time than the cast.
        """
        dtype = self.request.dtype
        if images.dtype == dtype or images.device.type != "cpu":
            return images.to(dtype)
        return self._buffers.images(len(images), images.shape[2], dtype).copy_(images)


def _differs(spec: Augment, form: str) -> tuple[str, float]:
    """Return how the pixels differ from the reference's, and the share in [0, 1] that differs by more than rounding."""
    if form == "stock" and spec.jitters:
        return "colours by DALI's color_twist: hue in YIQ, contrast about mid-grey, in a fixed order, not clamped", 1.0
    if spec.rotate:
        return "rotation: float32 coordinates choose the neighbour for fewer than one pixel in 10,000", 1e-4
    if spec.jitters or spec.size or spec.mean != Augment.mean or spec.std != Augment.std:
        return "float32 arithmetic in another order: some values in their last digits", 0.0
    return "", 0.0


PIPELINE = DaliPipeline
