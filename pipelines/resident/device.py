"""On CUDA: images, labels and the order of an epoch on the device, batches by the Triton kernel's launches."""

from collections.abc import Iterator

import torch
from fastcifar.kernels import gpu
from torch import Tensor

from fastcifar.clock import clock_of
from fastcifar.errors import UsageError
from fastcifar.formats.samples import Samples
from fastcifar.philox import Stream, key_of, rounds
from fastcifar.pipeline import Batch, Renderer, Request

LAUNCH_BYTES = 64 << 20  # of images that one launch makes, cut into batches: so small ones do not wait for launches
ORDER_WORDS = 24  # int64 a sample that shuffling holds at its peak: Philox's words and products, the sort's buffers


class OnDevice(Renderer):
    """Renders batches on the device of the request; any device that torch has, in Triton's interpreter."""

    def __init__(self, request: Request) -> None:
        """Raises UsageError where the dataset does not fit in the device's free memory."""
        self._request = request
        samples = Samples(request.dataset, request.dataset.part(request.split))
        self._require_memory(samples)
        # a copy: torch takes no tensor from memory that must not be written to
        self._images = torch.from_numpy(samples.images.copy()).to(request.device)
        self._labels = torch.from_numpy(samples.labels).to(request.device)
        self._ids = torch.from_numpy(request.ids).to(request.device)
        self._places = None if request.places is None else torch.from_numpy(request.places).to(request.device)
        self.render(
            self._ids, clock_of(request.seed, 0, request.device), self.empty(1)
        )  # compile before any clock runs

    def epoch(self, k: int) -> Iterator[Batch]:
        """The batches of epoch k, several of a launch as long as they are small."""
        request, size = self._request, self._request.share
        order, clock = self.order(k), self.clock(k)
        images = min(len(order), request.batches() * size)
        image_bytes = 3 * request.augment.out_size**2 * request.dtype.itemsize
        together = max(1, LAUNCH_BYTES // (size * image_bytes)) * size
        for start in range(0, images, together):
            made = self.empty(min(together, images - start))
            self.render(order[start:], clock, made)
            for first in range(0, len(made.ids), size):
                yield Batch(*(part[first : first + size] for part in made))

    def order(self, epoch: int) -> Tensor:
        """`Request.order` on the device."""
        whole = self._shuffled(epoch) if self._request.shuffles else self._ids
        return whole if self._places is None else whole[self._places]

    def _shuffled(self, epoch: int) -> Tensor:
        high, low, _, _ = rounds((self._ids, epoch, int(Stream.ORDER), 0), key_of(self._request.seed))
        # as an unsigned number of 64 bits would be sorted
        return self._ids[torch.argsort(((high - (1 << 31)) << 32) | low, stable=True)]

    def clock(self, epoch: int) -> Tensor:
        """The request's clock when ``epoch`` begins."""
        return clock_of(self._request.seed, epoch, self._request.device)

    def empty(self, n: int) -> Batch:
        """A batch of n samples, not initialised."""
        size, device = self._request.augment.out_size, self._request.device
        images = torch.empty((n, size, size, 3), dtype=self._request.dtype, device=device).permute(0, 3, 1, 2)
        labels, ids = (torch.empty(n, dtype=torch.int64, device=device) for _ in range(2))
        return Batch(images, labels, ids)

    def render(self, order: Tensor, clock: Tensor, out: Batch) -> None:
        """Write batch number clock[BATCH] of the order; nothing but launches."""
        gpu.render(self._images, self._labels, order, clock, self._request.augment, out.images, out.labels, out.ids)

    def _require_memory(self, samples: Samples) -> None:
        request = self._request
        if request.device.type != "cuda":
            return
        ids = len(request.ids)
        needed = samples.images.nbytes + samples.labels.nbytes + ids * 8 * ORDER_WORDS
        needed += request.batch_size * 3 * request.augment.out_size**2 * request.dtype.itemsize
        free, total = torch.cuda.mem_get_info(request.device)
        free += torch.cuda.memory_reserved(request.device) - torch.cuda.memory_allocated(request.device)
        if needed > free:
            raise UsageError(
                f"the dataset, its order and a batch of {request.batch_size} take {needed / 2**20:,.0f} MiB, but "
                f"{request.device} has {free / 2**20:,.0f} of its {total / 2**20:,.0f} MiB free; choose a smaller "
                "batch, another device, or a pipeline that reads from the disk"
            )
