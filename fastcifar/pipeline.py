"""What every input pipeline is (`Pipeline`), what it gives (`Batch`), and how to get one (`open_pipeline`).

A pipeline is a file in ``pipelines/``: its name is the file's, and the file says ``PIPELINE = <its class>``.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastcifar.augment import Augment
from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.kernels.reference import OUT_DTYPES
from fastcifar.rng.cursor import clock_of
from fastcifar.rng.philox import Stream, key_of, shuffled

P = TypeVar("P", bound="Pipeline")


class Batch(NamedTuple):
    """images: (B, 3, S, S), channels_last. labels: (B,) int64. ids: (B,) int64, rows of the dataset's arrays."""

    images: Tensor
    labels: Tensor
    ids: Tensor


@dataclass(frozen=True)
class Request:
    """What batches are wanted. Raises UsageError for what no pipeline could give."""

    dataset: Dataset
    split: str = "training"
    """training, validation, labelled (both) or test"""
    augment: Augment = field(default_factory=Augment)
    batch_size: int = 128
    seed: int = 0
    """of order and augmentation, [0, 2**64)"""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    shuffle: bool | None = None
    """None: only when split is training"""
    drop_last: bool = False
    """leave out an epoch's last batch when it is short"""
    split_seed: int | None = None
    """redraw the 4:1 split with this seed; None keeps the dataset's own"""
    shard: tuple[int, int] = (0, 1)
    """(rank, of how many) processes: of every batch, this one's equal share is wanted"""

    def __post_init__(self) -> None:
        key_of(self.seed)
        if self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size} must be at least 1")
        if self.batch_size % self.shard[1]:
            raise UsageError(f"batch size {self.batch_size} cannot be shared out to {self.shard[1]} processes equally")
        if self.dtype not in OUT_DTYPES:
            raise UsageError(f"dtype {self.dtype} is not one of {', '.join(map(str, OUT_DTYPES))}")

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """The ids of the split, (N,) int64, ascending."""
        return self.dataset.ids(self.split, self.split_seed)

    @property
    def shuffles(self) -> bool:
        """Whether each epoch has an order of its own."""
        return self.split == "training" if self.shuffle is None else self.shuffle

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The shard's ids in the order of ``epoch`` (>= 0); ascending unless shuffled."""
        whole = shuffled(self.ids, self.seed, Stream.ORDER, epoch) if self.shuffles else self.ids
        return whole if self.places is None else whole[self.places]

    @property
    def share(self) -> int:
        """Samples of a full batch that are the shard's."""
        return self.batch_size // self.shard[1]

    @cached_property
    def places(self) -> NDArray[np.int64] | None:
        """Where in an epoch's order the shard's samples are, (n,) int64; None where all are.

        Of a short last batch every shard has one sample at least, even if it is another's: see `last_weight`.
        """
        if self.shard == (0, 1):
            return None
        full = len(self.ids) // self.batch_size * self.batch_size
        shared = np.arange(full).reshape(-1, self.shard[1], self.share)[:, self.shard[0]].ravel()
        rest = np.arange(full, len(self.ids))
        mine = self._last_part()
        return np.concatenate([shared, mine if len(mine) else rest[-1:]])

    @property
    def last_weight(self) -> float:
        """What the mean over the shard's part of a short last batch counts for, such that the mean over shards is that
        over the batch; 1 where that batch is full.
        """
        rest = len(self.ids) % self.batch_size
        return len(self._last_part()) * self.shard[1] / rest if rest else 1.0

    def _last_part(self) -> NDArray[np.int64]:
        rest = len(self.ids) % self.batch_size
        return np.array_split(np.arange(len(self.ids) - rest, len(self.ids)), self.shard[1])[self.shard[0]]

    def batches(self) -> int:
        """Batches an epoch."""
        return len(self.ids) // self.batch_size if self.drop_last else -(-len(self.ids) // self.batch_size)


class Renderer(ABC):
    """Makes batches by launches alone, which a CUDA graph can hold: nothing is copied from the host or waited for."""

    @abstractmethod
    def order(self, epoch: int) -> Tensor:
        """The ids in the order of ``epoch``, (N,) int64 on the device."""

    @abstractmethod
    def clock(self, epoch: int) -> Tensor:
        """The clock as it stands when ``epoch`` begins, (3,) on the device: `clock.clock_of`."""

    @abstractmethod
    def empty(self, n: int) -> Batch:
        """Memory for a batch of n samples, on the device, not initialised."""

    @abstractmethod
    def render(self, order: Tensor, clock: Tensor, out: Batch) -> None:
        """Write into ``out``, of B samples, the order's samples [n * B, (n + 1) * B), where seed, epoch and n are the
        clock's when it runs (`clock.clock_of`).
        """


class Pipeline(ABC):
    """Gives the batches of a Request, epoch by epoch. A context manager: leaving it closes it.

    A file may offer its pipeline in several forms; ``NAME:FORM`` asks for one, ``NAME`` for the plain one, "".
    """

    forms: ClassVar[tuple[str, ...]] = ("",)
    shares: ClassVar[bool] = False
    """whether it gives a shard of each batch (`Request.shard`)"""
    differs: str = ""
    """where the pixels are not the reference's to the dtype's rounding: what differs, and why"""
    deviating: float = 1.0
    """of one that differs: the share of values, [0, 1], that may be off by more than float32 arithmetic rounds"""

    def __init__(self, request: Request, form: str = "") -> None:
        self.request, self.form = request, form

    @property
    def exact(self) -> bool:
        """Whether the pixels equal the reference's to the dtype's rounding."""
        return not self.differs

    @classmethod
    def missing(cls, form: str) -> str | None:
        """Why this form of the pipeline cannot run on this machine and the cure, or None."""
        return None

    @classmethod
    def refuses(cls, request: Request, form: str) -> str | None:
        """Why this form cannot give what is asked (say, a file that was not converted) and the cure, or None."""
        return None

    def __len__(self) -> int:
        return self.request.batches()

    @abstractmethod
    def epoch(self, k: int) -> Iterator[Batch]:
        """The batches of epoch k >= 0, a pure function of the request and k. Stop whenever you like.

        One epoch at a time: beginning another may end the one before, which then raises UsageError. So does a pipeline
        that is closed. A worker's error is raised here.
        """

    def clock(self, k: int) -> Tensor:
        """The clock as it stands when epoch k begins, on the request's device: `clock.clock_of`."""
        return clock_of(self.request.seed, k, self.request.device)

    def renderer(self) -> Renderer | None:
        """What makes its batches by launches alone, or None where more is needed."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Give back threads and memory. May be called again."""

    def __enter__(self: P) -> P:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pipeline_names() -> list[str]:
    """Every pipeline in each of its forms: the names of the files of ``pipelines/``, with ``:FORM``."""
    package = importlib.import_module("fastcifar.pipelines")
    files = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return [f"{name}:{form}" if form else name for name in files for form in _class_of(name).forms]


def available() -> dict[str, str | None]:
    """Every name with None where it can run here, and the reason and cure where it cannot."""
    return {name: _class_of(name).missing(name.partition(":")[2]) for name in pipeline_names()}


def _class_of(name: str) -> type[Pipeline]:
    pipeline: type[Pipeline] = importlib.import_module(f"fastcifar.pipelines.{name.partition(':')[0]}").PIPELINE
    return pipeline


def open_pipeline(name: str, dataset: Dataset, **request: Any) -> Pipeline:
    """A pipeline by name (``resident``, ``NAME:FORM``) over ``dataset``; keywords are the fields of Request.

    Raises UsageError for an unknown name, a pipeline that cannot run here, or a request that cannot be met.
    """
    names = pipeline_names()
    if name not in names:
        raise UsageError(f"pipeline {name!r} does not exist; there are {', '.join(names)}")
    asked, pipeline, form = Request(dataset, **request), _class_of(name), name.partition(":")[2]
    if asked.shard != (0, 1) and not pipeline.shares:
        raise UsageError(f"pipeline {name!r} does not share batches out to processes; resident does")
    reason = pipeline.missing(form) or pipeline.refuses(asked, form)
    if reason:
        raise UsageError(f"pipeline {name!r} cannot be used: {reason}")
    return pipeline(asked, form)
