"""DALI's operators at work: fed with batches, epoch after epoch."""

from collections.abc import Iterator
from ctypes import CDLL
from typing import Any

import torch
from fastcifar.kernels import cpu
from fastcifar.pipelines.dali.graph import arguments, build
from fastcifar.pipelines.dali.reading import Read
from nvidia.dali.backend import ReleaseUnusedMemory  # type: ignore[attr-defined] # its stubs leave it out
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from fastcifar.data.formats.samples import I64
from fastcifar.errors import FastcifarError
from fastcifar.pipeline import Request


class Operators:
    """The request's recipe on its device, by ``threads`` threads. stock: colour by DALI's own operator.

    Raises FastcifarError where DALI cannot be built.
    """

    def __init__(self, request: Request, stock: bool, threads: int) -> None:
        self._request, self._stock = request, stock
        self._options: dict[str, Any] = {
            "batch_size": request.batch_size,
            "num_threads": threads,
            "device_id": _number(request.device),
            # DALI has no bfloat16, and on the CPU torch casts twice as fast
            "half": request.dtype == torch.float16 and request.device.type == "cuda",
        }
        self._coming: Iterator[Read] = iter(())  # what DALI will be fed
        self._dali: Any = None
        self.rewind()

    def begin(self, order: I64, samples: Iterator[Read], k: int) -> None:
        """An epoch: ``order``, the ids (N,) of ``samples`` in whole batches, gets the draws of epoch ``k``."""
        self._coming = self._told(order, samples, k)

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """The next images (B, S, S, 3), labels (B, 1) and ids (B, 1), on the request's device, for work on the current
        stream. Their memory is the caller's: DALI takes it back when they are dropped, but on a GPU only once all is
        done that the device had been given by then (its DLTensorGraveyard).

        Raises FastcifarError where DALI fails, and what the epoch's samples raise.
        """
        device = self._request.device
        # told of no stream, DALI lets the host wait for its operators
        stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
        try:
            images, labels, ids = (from_dlpack(output.as_tensor()) for output in self._dali.run(stream))
        except RuntimeError as error:
            self._dali = None  # it is of no use any more
            raise FastcifarError(f"DALI failed: {_reason(error)}") from error
        return images, labels, ids

    def rewind(self) -> None:
        """Have DALI finish what it was fed, and be ready for another epoch."""
        self._coming = iter(())
        try:
            while self._dali is not None:
                self._dali.run()
        except StopIteration:
            self._dali.reset()
        except RuntimeError:  # in a batch that nobody asked for
            self._dali = None
        if self._dali is None:
            self._dali = self._built()

    def close(self) -> None:
        """Give back DALI's threads and memory, from the C library's and DALI's pools too.

        Of the host memory of large batches DALI keeps what it had at once for the next pipeline of the process. Nothing
        returns that; DALI_MALLOC_POOL_THRESHOLD=0 prevents it, and large images take 2.5 times as long.
        """
        self._dali, self._coming = None, iter(())
        ReleaseUnusedMemory()
        CDLL(None).malloc_trim(0)

    def _built(self) -> Any:
        request = self._request
        names = list(arguments(request.augment, cpu.draw(request.augment, 0, 0, request.ids[:1]), self._stock))
        names = ["image", "label", "id", *names]

        def source() -> list[Any]:
            told = next(self._coming)
            return [told[name] for name in names]

        try:
            return build(request.augment, source, names, stock=self._stock, **self._options)
        except RuntimeError as error:
            raise FastcifarError(f"DALI cannot be built: {_reason(error)}") from error

    def _told(self, order: I64, samples: Iterator[Read], k: int) -> Iterator[Read]:
        request = self._request
        for start, read in zip(range(0, len(order), request.batch_size), samples, strict=False):
            ids = order[start : start + request.batch_size]
            if (read["id"][:, 0] != ids).any():
                raise FastcifarError("DALI read other records than its index lists")
            yield read | arguments(request.augment, cpu.draw(request.augment, request.seed, k, ids), self._stock)


def _number(device: torch.device) -> int | None:
    """DALI's name of a device: the GPU's number, None for the CPU."""
    if device.type == "cpu":
        return None
    return torch.cuda.current_device() if device.index is None else device.index


def _reason(error: RuntimeError) -> str:
    """What DALI's message says, without where in the graph and in its own source."""
    _, found, reason = str(error).partition("encountered:")
    return (reason if found else str(error)).strip().splitlines()[0]
