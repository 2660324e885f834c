"""Asynchronous copies of batches from the host's memory to a CUDA device."""

from collections import deque
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor

Parts = Any
"""A NamedTuple of tensors, all on one device, such as `pipeline.Batch`."""


class Sent(NamedTuple):
    """A batch that was sent to a device; the copy may still be running."""

    batch: Parts
    copied: torch.cuda.Event | None
    """The event that the device records when the copy is complete; None if there was nothing to copy."""

    def received(self) -> Parts:
        """Return the batch for work on the current stream. That stream waits for the copy; the host does not."""
        if self.copied is not None:
            stream = torch.cuda.current_stream(self.batch[0].device)
            stream.wait_event(self.copied)
            for part in self.batch:
                # without this, torch could reuse the memory on the copies' stream while this stream still reads it
                part.record_stream(stream)
        return self.batch


class Transfer:
    """Sends batches to a device.

    Batches for a CUDA device are copied from pinned memory, which the device reads by itself, on a separate stream.
    A copy waits for no computation, and only the computation on the same batch waits for the copy.

    Any thread may send batches ahead of the consumer. The source of a copy is referenced until the device has finished
    the copy, so a buffer must be reused only when nothing refers to it.

    On the CPU, a batch comes back unchanged.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._read: deque[tuple[torch.cuda.Event, Parts]] = deque()  # unfinished copies and their sources
        self._lock = Lock()

    def send(self, batch: Parts) -> Sent:
        """Start the copy of a batch in host memory. Tensors that are not pinned are first copied to pinned memory."""
        if self._stream is None:
            return Sent(batch._make(part.to(self._device) for part in batch), None)
        pinned = batch._make(part.pin_memory() for part in batch)
        with torch.cuda.stream(self._stream):
            there = batch._make(part.to(self._device, non_blocking=True) for part in pinned)
            copied = torch.cuda.Event()
            copied.record(self._stream)
        with self._lock:
            while self._read and self._read[0][0].query():
                self._read.popleft()
            self._read.append((copied, pinned))
        return Sent(there, copied)

    def close(self) -> None:
        """Wait for the running copies, then release their sources. It is safe to call this twice."""
        with self._lock:
            for copied, _ in self._read:
                copied.synchronize()
            self._read.clear()


def pinned_images(n: int, size: int, dtype: torch.dtype) -> Tensor:
    """Return a pinned tensor (n, 3, size, size) of ``dtype``, channels_last, not initialised. size: in pixels.

    `Transfer` sends images in pinned memory without another copy on the host. Pinning is slow, so torch caches pinned
    memory for later calls.
    """
    return torch.empty((n, size, size, 3), dtype=dtype, pin_memory=True).permute(0, 3, 1, 2)
