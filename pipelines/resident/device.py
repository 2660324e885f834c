"""The resident pipeline on CUDA: the dataset and an epoch's order are on the device, where Triton makes the batches."""

from collections.abc import Callable, Hashable, Iterator

import torch
from fastcifar.kernels import gpu
from fastcifar.pipelines.resident.store import Store
from torch import Tensor

from fastcifar.errors import DoesNotFit
from fastcifar.pipeline import Batch, Renderer, Request
from fastcifar.rng.cursor import EPOCH, clock_of

LAUNCH_BYTES = 64 << 20  # bytes of images that one launch makes; small batches share a launch, which saves launch time
ORDER_WORDS = 10  # peak int64 values per sample of an order: ids, keys, results and buffers of the sort, two orders


class OnDevice(Renderer):
    """The maker of batches on the request's device. In Triton's interpreter this may be any device of torch."""

    def __init__(self, request: Request) -> None:
        """Copy the dataset to the device, and compile the kernels.

        Raises DoesNotFit where the dataset does not fit into the device's free memory.
        """
        self._request, device = request, request.device
        self._require_memory()
        self._store = Store.of(request.dataset, request.dataset.part(request.split), device)
        self._ids = torch.from_numpy(request.ids).to(device)
        self._places = None if request.places is None else torch.from_numpy(request.places).to(device)
        self._first_clock = clock_of(request.draw_seed, 0, device)
        self._order_clock = clock_of(request.seed, 0, device)
        self._orders = Ahead(device)
        self.render(self.order(0), self._first_clock, self.empty(1))  # compile now, not in the first timed epoch

    def epoch(self, k: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch k, from batch number ``start`` on.

        One launch makes several batches while they are small.
        """
        request, size = self._request, self._request.share
        order, clock = self.order(k), self.clock(k)
        images = min(len(order), request.batches() * size)
        image_bytes = 3 * request.augment.out_size**2 * request.dtype.itemsize
        together = max(1, LAUNCH_BYTES // (size * image_bytes)) * size
        for begin in range(start * size, images, together):
            made = self.empty(min(together, images - begin))
            self.render(order[begin:], clock, made)
            for first in range(0, len(made.ids), size):
                yield Batch(*(part[first : first + size] for part in made))

    def order(self, epoch: int) -> Tensor:
        """Return `Request.order` of an epoch, (N,) int64 on the device."""
        whole = self._orders.of(epoch, self._shuffled) if self._request.shuffles else self._ids
        return whole if self._places is None else whole[self._places]

    def _shuffled(self, epoch: int) -> Tensor:
        """Return all ids in the order of an epoch, in three launches (with the radix sort as one)."""
        keys = gpu.order_keys(self._ids, _at(self._order_clock, epoch))
        return self._ids[torch.sort(keys, stable=True).indices]

    def clock(self, epoch: int) -> Tensor:
        """Return the clock of the request's draws at the start of ``epoch``."""
        return _at(self._first_clock, epoch)

    def empty(self, n: int) -> Batch:
        """Return a batch of n samples, whose memory is not initialised."""
        size, device = self._request.augment.out_size, self._request.device
        images = torch.empty((n, size, size, 3), dtype=self._request.dtype, device=device).permute(0, 3, 1, 2)
        labels, ids = (torch.empty(n, dtype=torch.int64, device=device) for _ in range(2))
        return Batch(images, labels, ids)

    def render(self, order: Tensor, clock: Tensor, out: Batch) -> None:
        """Write batch number clock[BATCH] of the order to ``out``, by kernel launches alone."""
        held, spec = self._store, self._request.augment
        gpu.render(held.images, held.labels, order, clock, spec, out.images, out.labels, out.ids)

    @property
    def kind(self) -> Hashable:
        return self._store, self._request.augment, self._request.dtype

    def render_groups(self, groups: Tensor, order: Tensor, clock: Tensor, out: Batch) -> None:
        """Write the batches of all groups in the launches of one `render`."""
        held, spec = self._store, self._request.augment
        gpu.render(held.images, held.labels, order, clock, spec, *out, groups=groups)

    def _require_memory(self) -> None:
        request = self._request
        if request.device.type != "cuda":
            return
        part, ids = request.dataset.part(request.split), len(request.ids)
        needed = ids * 8 * ORDER_WORDS + request.batch_size * 3 * request.augment.out_size**2 * request.dtype.itemsize
        what = "the order of an epoch"
        if not Store.is_kept(request.dataset, part, request.device):
            images = request.dataset.images(part)
            needed, what = needed + images.nbytes + 8 * len(images), "the dataset, its order"
        free, total = torch.cuda.mem_get_info(request.device)
        free += torch.cuda.memory_reserved(request.device) - torch.cuda.memory_allocated(request.device)
        if needed > free:
            raise DoesNotFit(
                f"{what} and a batch of {request.batch_size} take {needed / 2**20:,.0f} MiB, but "
                f"{request.device} has {free / 2**20:,.0f} of its {total / 2**20:,.0f} MiB free; choose a smaller "
                "batch, another device, or a pipeline that reads from the disk"
            )


class Ahead:
    """The orders of epochs, each made on a side stream while the device works on the epoch before."""

    def __init__(self, device: torch.device) -> None:
        """Make the side stream. Without CUDA there are no streams, and no order is made ahead."""
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._next: tuple[int, Tensor] | None = None

    def of(self, epoch: int, make: Callable[[int], Tensor]) -> Tensor:
        """Return the order of an epoch, (N,) int64, and begin to make the order of the next epoch.

        make: makes the order of an epoch by kernel launches alone.
        """
        if self._stream is None:
            return make(epoch)
        now = torch.cuda.current_stream(self._device)
        if self._next is not None and self._next[0] == epoch:
            order = self._next[1]
            now.wait_stream(self._stream)
            order.record_stream(now)  # the side stream allocated it, and must not reuse it too early
        else:
            order = make(epoch)
        self._stream.wait_stream(now)
        with torch.cuda.stream(self._stream):
            self._next = epoch + 1, make(epoch + 1)
        return order


def _at(clock: Tensor, epoch: int) -> Tensor:
    """Return a clock at the start of an epoch, made on its device without waiting for the host."""
    later = clock.clone()
    later[EPOCH].fill_(epoch)
    return later
