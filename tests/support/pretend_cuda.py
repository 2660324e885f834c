"""A simulated CUDA device for machines without one. It works as late as CUDA permits, and records every wait."""

import ctypes
import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

SPOILT = 0xFF  # of every byte: -1 as an integer, not a number as a float


class PretendDevice:
    """A replacement for torch.cuda and the tensors' methods while it is ``installed``. Its device memory is the CPU's.

    A stream is a queue, and its work is done only when the host waits for it. A copy for which nobody waits is
    therefore late. If its source was freed in the meantime, it copies spoilt bytes, as with pinned memory that is
    reused.
    """

    def __init__(self) -> None:
        self.waits: list[str] = []
        """The objects that the host waited for."""
        self.pinned_late: list[torch.Size] = []
        """The shapes of tensors that were copied into pinned memory after they were made."""
        self.copied_on: list[Stream] = []
        """The stream of each copy to the device."""
        self.recorded: set[tuple[int, Stream]] = set()
        """(address, stream) of each record_stream call: memory that must outlive the stream's queued work."""
        self.main = Stream(self)
        """The stream of every thread that chooses no other."""
        self.device = torch.device("cuda:0")
        self.lock = threading.RLock()
        self._current = threading.local()
        self._pinned: dict[int, torch.Tensor] = {}  # by address, for ever: so no address comes twice
        self._dropped: list[None] = []  # as long as there is pinned memory that nobody refers to any more

    def current(self, _device: object = None) -> "Stream":
        return getattr(self._current, "stream", self.main)

    @contextmanager
    def on(self, stream: "Stream") -> Iterator[None]:
        before, self._current.stream = self.current(), stream
        try:
            yield
        finally:
            self._current.stream = before

    def launch(self, work: Callable[[], object]) -> None:
        """Queue a kernel on the current stream."""
        with self.lock:
            self.current().queue.append(work)

    def read(self, batch: Iterable[torch.Tensor], seen: list[list[torch.Tensor]]) -> None:
        """Queue work on the current stream that appends a copy of the batch to ``seen``."""
        self.launch(lambda: seen.append([part.clone() for part in batch]))

    @property
    def pinned_arrays(self) -> int:
        """The number of pinned arrays that are still referred to."""
        return len(self._pinned) - len(self._dropped)

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._pinned

    def register(self, tensor: torch.Tensor) -> None:
        """Pin memory that the caller keeps, as cudaHostRegister does, without holding a reference to it."""
        storage = tensor.untyped_storage()
        there = (ctypes.c_uint8 * storage.nbytes()).from_address(storage.data_ptr())
        self._pinned[storage.data_ptr()] = torch.from_numpy(np.frombuffer(there, np.uint8))

    def pinned(self, n_bytes: int) -> torch.Tensor:
        memory = np.empty(n_bytes, np.uint8)
        lent = memory[:]

        def dropped() -> None:
            memory.fill(SPOILT)
            self._dropped.append(None)

        weakref.finalize(lent, dropped).atexit = False
        with self.lock:
            self._pinned[memory.ctypes.data] = torch.from_numpy(memory)
        return torch.from_numpy(lent)

    def pin_memory(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.is_pinned(tensor):
            return tensor
        self.pinned_late.append(tensor.shape)
        pinned = self.pinned(tensor.numel() * tensor.itemsize).view(tensor.dtype)
        return pinned.as_strided(tensor.shape, tensor.stride()).copy_(tensor)

    def copy(self, tensor: torch.Tensor, non_blocking: bool) -> torch.Tensor:
        """Copy a tensor to the device on the current stream."""
        there = torch.empty_like(tensor).fill_(torch.nan if tensor.is_floating_point() else -1)
        with self.lock:
            stream = self.current()
            self.copied_on.append(stream)
            if non_blocking and self.is_pinned(tensor):
                # of the source no more than its address, as a device has it
                memory = self._pinned[tensor.untyped_storage().data_ptr()].view(tensor.dtype)
                source = memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
                stream.queue.append(lambda: there.copy_(source))
            else:
                self.waits.append("a copy that blocks, or one of memory that is not pinned")
                stream.run()
                there.copy_(tensor)
        return there

    def installed(self, monkeypatch: pytest.MonkeyPatch) -> "PretendDevice":
        to, empty = torch.Tensor.to, torch.empty

        def pretended_to(tensor, *args, non_blocking=False, **more):
            if args and isinstance(args[0], torch.device) and args[0].type == "cuda":
                return self.copy(tensor, non_blocking)
            return to(tensor, *args, non_blocking=non_blocking, **more)

        def pretended_empty(*args, pin_memory=False, **more):
            if not pin_memory:
                return empty(*args, **more)
            (shape,), dtype = args, more.pop("dtype")
            assert not more
            return self.pinned(int(np.prod(shape)) * dtype.itemsize).view(dtype).view(shape)

        def record_stream(tensor, stream):
            self.recorded.add((tensor.data_ptr(), stream))

        for name, pretended in {
            "Stream": lambda device=None: Stream(self),
            "Event": lambda: Event(self),
            "stream": self.on,
            "current_stream": self.current,
            "synchronize": lambda device=None: self.waits.append("the device"),
        }.items():
            monkeypatch.setattr(torch.cuda, name, pretended)
        monkeypatch.setattr(torch, "empty", pretended_empty)
        monkeypatch.setattr(torch.Tensor, "to", pretended_to)
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: self.pin_memory(tensor))
        monkeypatch.setattr(torch.Tensor, "record_stream", record_stream)
        return self


class Stream:
    """A queue of work."""

    _numbers = itertools.count(1000)

    def __init__(self, device: PretendDevice) -> None:
        self.queue: deque = deque()
        self.cuda_stream = next(self._numbers)
        self._device = device

    def wait_event(self, event: "Event") -> None:
        with self._device.lock:
            self.queue.append(event.happen)

    def synchronize(self) -> None:
        self._device.waits.append("a stream")
        self.run()

    def run(self) -> None:
        """Do all work in the queue."""
        with self._device.lock:
            while self.queue:
                self.queue.popleft()()


class Event:
    """An event, which has happened when its stream has reached it."""

    def __init__(self, device: PretendDevice) -> None:
        self._device, self._stream, self._happened = device, None, False

    def record(self, stream: Stream) -> None:
        with self._device.lock:
            self._stream = stream
            stream.queue.append(lambda: setattr(self, "_happened", True))

    def happen(self) -> None:
        with self._device.lock:
            while not self._happened:
                self._stream.queue.popleft()()

    def query(self) -> bool:
        return self._happened

    def synchronize(self) -> None:
        self._device.waits.append("an event")
        self.happen()


def same(batches: Iterable[Iterable[torch.Tensor]], expected: Iterable[Iterable[torch.Tensor]]) -> bool:
    """Return whether all parts of all batches are equal, on any devices."""
    return all(
        torch.equal(part.cpu(), wanted.cpu())
        for ours, theirs in zip(batches, expected, strict=True)
        for part, wanted in zip(ours, theirs, strict=True)
    )
