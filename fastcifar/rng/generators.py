"""The global random generators of torch, numpy and Python, which other people's code uses."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def seeded(seed: int, numpy_seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators within this context, and restore their states at its end.

    seed: the seed of torch's and Python's generators, in [0, 2**64). numpy_seed: numpy's, in [0, 2**32). device: a CUDA
    device whose generator is seeded, too; another device, or None, means the CPU alone.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 # such code uses it
    on_cuda = device is not None and device.type == "cuda"
    try:
        with torch.random.fork_rng([device] if on_cuda else []):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed other devices
            if on_cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            np.random.seed(numpy_seed)  # noqa: NPY002
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def states() -> dict[str, bytes]:
    """Return the states of the global generators of the CPU, by library. Equal states are equal bytes."""
    legacy: Any = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": repr((legacy[1].tobytes(), legacy[2:])).encode(),
        "Python": repr(random.getstate()).encode(),
    }
