"""DALI's operators as an object that is fed with the batches of one epoch after another."""

from collections.abc import Iterator
from ctypes import CDLL
from typing import Any

import torch
from fastcifar.kernels import cpu
from fastcifar.pipelines.dali.graph import arguments, build_graph
from fastcifar.pipelines.dali.reading import Read
from nvidia.dali.backend import ReleaseUnusedMemory  # type: ignore[attr-defined] # its stubs leave it out
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from fastcifar.data.formats.samples import I64
from fastcifar.errors import FastcifarError
from fastcifar.pipeline import Request


class Operators:
    """DALI's operators for the recipe and the device of a request.

    stock: use DALI's own colour operator. threads: the number of DALI's threads. Raises FastcifarError where DALI's
    pipeline cannot be built.
    """

    def __init__(self, request: Request, stock: bool, threads: int) -> None:
        self._request, self._stock = request, stock
        self._options: dict[str, Any] = {
            "batch_size": request.share,
            "num_threads": threads,
            "device_id": _number(request.device),
            # DALI has no bfloat16, and on the CPU torch casts twice as fast
            "half": request.dtype == torch.float16 and request.device.type == "cuda",
        }
        self._coming: Iterator[Read] = iter(())  # the batches that DALI will be fed with
        self._dali: Any = None
        self.rewind()

    def begin(self, order: I64, samples: Iterator[Read], k: int) -> None:
        """Begin an epoch. order: (N,) the ids of the samples, in whole batches. k: the epoch of the draws."""
        self._coming = self._with_arguments(order, samples, k)

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the next images (B, S, S, 3), labels (B, 1) and ids (B, 1), on the request's device.

        They are ready for work on the current stream, and the caller may keep them. DALI frees their memory after the
        caller has dropped them. On a GPU DALI also waits for the work launched before that (its DLTensorGraveyard).

        Raises FastcifarError where DALI fails, and every error of the epoch's samples.
        """
        device = self._request.device
        # without a stream, DALI makes the host wait for its operators
        stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
        try:
            images, labels, ids = (from_dlpack(output.as_tensor()) for output in self._dali.run(stream))
        except RuntimeError as error:
            self._dali = None  # it cannot be used after an error
            raise FastcifarError(f"DALI failed: {_reason(error)}") from error
        return images, labels, ids

    def rewind(self) -> None:
        """Finish the batches that DALI was fed with, and make it ready for another epoch."""
        self._coming = iter(())
        try:
            while self._dali is not None:
                self._dali.run()
        except StopIteration:
            self._dali.reset()
        except RuntimeError:  # the error of a batch that no caller will use
            self._dali = None
        if self._dali is None:
            self._dali = self._built()

    def close(self) -> None:
        """Release DALI's threads and memory, including the memory pools of DALI and of the C library.

        DALI keeps the peak of its host memory for large batches, for the next pipeline of the process. No call releases
        that memory. DALI_MALLOC_POOL_THRESHOLD=0 avoids it, but then large images take 2.5 times as long.
        """
        self._dali, self._coming = None, iter(())
        ReleaseUnusedMemory()
        CDLL(None).malloc_trim(0)

    def _built(self) -> Any:
        request = self._request
        names = list(arguments(request.augment, cpu.draw(request.augment, 0, 0, request.ids[:1]), self._stock))
        names = ["image", "label", "id", *names]

        def source() -> list[Any]:
            batch = next(self._coming)
            return [batch[name] for name in names]

        try:
            return build_graph(request.augment, source, names, stock=self._stock, **self._options)
        except RuntimeError as error:
            raise FastcifarError(f"DALI cannot be built: {_reason(error)}") from error

    def _with_arguments(self, order: I64, samples: Iterator[Read], k: int) -> Iterator[Read]:
        request = self._request
        for start, read in zip(range(0, len(order), request.share), samples, strict=False):
            ids = order[start : start + request.share]
            if (read["id"][:, 0] != ids).any():
                raise FastcifarError(
                    "DALI read other records than its index lists; convert the dataset again: "
                    "fastcifar convert SRC DEST --formats dali --overwrite"
                )
            yield read | arguments(request.augment, cpu.draw(request.augment, request.draw_seed, k, ids), self._stock)


def _number(device: torch.device) -> int | None:
    """Return DALI's device_id: the number of a GPU, None for the CPU."""
    if device.type == "cpu":
        return None
    return torch.cuda.current_device() if device.index is None else device.index


def _reason(error: RuntimeError) -> str:
    """Return the reason in DALI's message, without the places in the graph and in DALI's source."""
    _, separator, reason = str(error).partition("encountered:")
    return (reason if separator else str(error)).strip().splitlines()[0]
