"""From the host's memory to a CUDA device, while the host and the device go on with other work."""

from collections import deque
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor

Parts = Any
"""a NamedTuple of tensors, such as `pipeline.Batch`; the first one lies where all of them lie"""


class Sent(NamedTuple):
    """A batch that was sent; its memory on the device may still be waiting for the pixels."""

    batch: Parts
    copied: torch.cuda.Event | None
    """what happens on the device when the copy is complete; None where there was nothing to copy"""

    def received(self) -> Parts:
        """The batch, for work on the current stream: that stream waits for the copy, and the host does not."""
        if self.copied is not None:
            stream = torch.cuda.current_stream(self.batch[0].device)
            stream.wait_event(self.copied)
            for part in self.batch:
                # it is the copies' stream that torch would give the memory back to, however much this one has to do
                part.record_stream(stream)
        return self.batch


class Transfer:
    """Sends batches to a device. To a CUDA device they are copied from pinned memory, which the device reads by itself,
    on a stream of their own: a copy waits for no computation, and no computation but the batch's own waits for it.

    Whoever makes batches ahead of the consumer sends them ahead, from any thread. Whatever a copy reads is held until
    the device has done that copy, so memory that is used again must only be taken again once nothing refers to it.

    On the CPU a batch comes back as it is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._read: deque[tuple[torch.cuda.Event, Parts]] = deque()  # by copies under way
        self._lock = Lock()

    def send(self, batch: Parts) -> Sent:
        """Begin to copy a batch of the host's memory. What is not pinned yet is copied to pinned memory at once."""
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
        """Wait for the copies under way, then let go of what they read. May be called again."""
        with self._lock:
            for copied, _ in self._read:
                copied.synchronize()
            self._read.clear()


def pinned_images(n: int, size: int, dtype: torch.dtype) -> Tensor:
    """(n, 3, size, size) dtype, channels_last, not initialised, in pinned memory: what is made there need not be copied
    to be sent. Pinning takes long, so torch keeps the memory for the next that is asked for.
    """
    return torch.empty((n, size, size, 3), dtype=dtype, pin_memory=True).permute(0, 3, 1, 2)
