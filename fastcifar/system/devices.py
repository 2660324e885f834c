"""Devices: select the one that --device names, make it current, and set its float32 arithmetic."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from fastcifar.errors import UsageError
from fastcifar.system.launch import check_device, processes


def device_of(name: str) -> torch.device:
    """Return the device of a name, as `device_named` does; make it this thread's current device with `use`."""
    return use(device_named(name))


def device_named(name: str) -> torch.device:
    """Return the device of a name. Raises UsageError for an unknown name or a missing device.

    name: ``auto`` (CUDA if there is a CUDA device, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
    """
    check_device(name)
    name = local_device(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name!r}: torch sees {torch.cuda.device_count()} CUDA devices; fastcifar doctor")
    return device


def use(device: torch.device) -> torch.device:
    """Make a device the current device of this thread, set `exact` arithmetic, and return the device.

    Triton launches kernels on the current device, and CUDA graphs are recorded there, whatever device holds the
    tensors.
    """
    exact(device)
    if device.type == "cuda" and device.index is not None:  # without an index it is already the current one
        torch.cuda.set_device(device)
    return device


def on(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which ``device`` is current: kernels are launched and graphs are recorded there."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def exact(device: torch.device) -> None:
    """Turn TF32 off and make cuDNN deterministic on CUDA, for the life of this process. Other devices stay unchanged.

    By default, cuDNN rounds the factors of a float32 convolution to TF32, which has 10 bits of fraction. Some of its
    algorithms also add in an order that changes from run to run (torch's notes on numerical accuracy and on
    reproducibility). Then results would not be equal to float32 rounding, and a run that was interrupted would not end
    with the same metrics.
    """
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Undo `exact` within this context, so that a contestant from another project runs with torch's defaults."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.deterministic, matmul.allow_tf32
    cudnn.allow_tf32, cudnn.deterministic, matmul.allow_tf32 = True, False, False
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic, matmul.allow_tf32 = before


def give_back(device: torch.device) -> None:
    """Return torch's unused cached memory to the device; a CUDA graph keeps its memory until the graph is deleted."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def forget_peak(device: torch.device) -> None:
    """Restart torch's count of peak memory on a device from the memory in use now."""
    if device.type == "cuda":
        give_back(device)  # otherwise cached memory would count as used
        torch.cuda.reset_peak_memory_stats(device)


def local_device(name: str) -> str:
    """Return ``cuda:N`` for ``auto`` and ``cuda`` under torchrun, where N is this process's local rank; else the name.

    Raises UsageError if torchrun started more processes than there are devices.
    """
    place = os.environ.get("LOCAL_RANK")
    if place is None or processes() == 1 or not torch.cuda.is_available() or name not in ("auto", "cuda"):
        return name
    if int(place) >= torch.cuda.device_count():
        raise UsageError(
            f"torchrun started process {place} here, but there are {torch.cuda.device_count()} CUDA devices; start no "
            "more than --nproc-per-node=gpu"
        )
    return f"cuda:{place}"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Give torch's operations ``count`` threads in this context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
