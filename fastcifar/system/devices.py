"""Which device --device means, made the current one, and what float32 means there."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from fastcifar.errors import UsageError


def device_of(name: str) -> torch.device:
    """The device that `named` finds, made the current one of this thread, with arithmetic that is `exact`."""
    return use(device_named(name))


def device_named(name: str) -> torch.device:
    """``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``. Raises UsageError where there is none."""
    name = local_device(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device {name!r} is not one of auto, cpu, cuda, cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not one of auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name!r}: torch sees {torch.cuda.device_count()} CUDA devices; fastcifar doctor")
    return device


def use(device: torch.device) -> torch.device:
    """Make a device the current one of this thread, with arithmetic that is `exact`; returns it.

    Triton launches its kernels on the current device, and CUDA graphs are recorded there, wherever their tensors lie.
    """
    exact(device)
    if device.type == "cuda" and device.index is not None:  # else it is the current one by torch's own definition
        torch.cuda.set_device(device)
    return device


def on(device: torch.device) -> AbstractContextManager[object]:
    """Have what is launched or recorded within it go to ``device``, whichever is the current one outside."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def exact(device: torch.device) -> None:
    """Have CUDA's float32 be float32, and its convolutions the same each time, for as long as this process lives. Where
    the device is another one, nothing is set.

    By default cuDNN rounds the factors of a float32 convolution to TF32, which has 10 bits of fraction, and chooses
    among algorithms of which some add in an order that changes from run to run (torch's notes on numerical accuracy
    and on reproducibility). Then neither would "equal to float32 rounding" be true, nor would a run that was
    interrupted end with the same metrics.
    """
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Undo `exact` for what runs within: a contestant that is not ours computes as torch does when nothing is set."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.deterministic, matmul.allow_tf32
    cudnn.allow_tf32, cudnn.deterministic, matmul.allow_tf32 = True, False, False
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic, matmul.allow_tf32 = before


def give_back(device: torch.device) -> None:
    """Give the memory back that torch keeps for what it allocates next; a graph's memory is its own until then."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def forget_peak(device: torch.device) -> None:
    """Count the most memory that torch holds of a device anew, from what is in use now."""
    if device.type == "cuda":
        give_back(device)  # else what is only kept would count
        torch.cuda.reset_peak_memory_stats(device)


def processes() -> int:
    """How many torchrun started for this training; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_device(name: str) -> str:
    """``auto`` and ``cuda`` as the device that is this process's own under torchrun; else the name as it is.

    Raises UsageError where torchrun started more processes than there are devices.
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


def leads() -> bool:
    """Whether this process is the one that writes and speaks for all."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def a_thread_each():  # type: ignore[no-untyped-def]
    """Have torch's operations keep to one thread, so that each of several runs has a core to itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
