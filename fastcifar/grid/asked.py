"""The options of a grid's training, and their checks, which need no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError, unknown
from fastcifar.packs.names import check_way
from fastcifar.runs.logs import log_of

if TYPE_CHECKING:
    import torch

EXECUTORS = ("local", "ray")
PACK = {"cpu": 12, "cuda": 48}  # runs of a pack at most, unless --pack gives another number


def check_options(executor: str, address: str | None, way: str, log: str) -> None:
    """Raise UsageError for an unknown executor, way or log, and for an address without Ray."""
    if executor not in EXECUTORS:
        raise unknown("--executor", executor, EXECUTORS)
    check_way(way)
    if address is not None and executor != "ray":
        raise UsageError("--address is the address of a Ray cluster; add --executor ray")
    log_of(log)


@dataclass(frozen=True)
class Asked:
    """The options of a grid's training. Raises UsageError for an unknown executor, way or log."""

    dataset: Dataset
    out: Path
    device: "torch.device"
    executor: str = "local"
    address: str | None = None
    way: str = "auto"
    pack: int | None = None
    weights: str | None = None
    log: str = "none"
    every_device: bool = True
    """Whether to train on all CUDA devices of this machine, where ``device`` is a CUDA device."""

    def __post_init__(self) -> None:
        check_options(self.executor, self.address, self.way, self.log)

    @property
    def devices(self) -> list[str]:
        """The devices of the workers on this machine, one for each worker."""
        if self.device.type == "cuda" and self.every_device:
            import torch

            return [f"cuda:{n}" for n in range(torch.cuda.device_count())]
        return [str(self.device)]

    @property
    def most(self) -> int:
        """The largest number of runs in a pack, if memory sets no lower limit."""
        return self.pack or PACK[self.device.type]
