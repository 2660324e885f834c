"""Host memory for batches, which is reused when nothing refers to it."""

import sys
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KEPT = 16  # buffers that are kept for reuse: batches made ahead, the consumer's batches, short last batches


class Buffers:
    """Memory for batches. A buffer is used again when nothing refers to it: no tensor, no view, no saved activation.

    Each tensor is made from a numpy array. The tensor's storage holds a reference to the array for as long as it lives.
    """

    def __init__(self) -> None:
        self._arrays: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)]
        self._unused = sys.getrefcount(self._arrays[0])  # the count of an array that only the list refers to
        self._lock = Lock()

    def images(self, n: int, size: int, dtype: torch.dtype) -> Tensor:
        """Return a tensor (n, 3, size, size) of ``dtype``, channels_last, not initialised. size: in pixels."""
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
