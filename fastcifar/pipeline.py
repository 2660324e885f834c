"""The interface of input pipelines (`Pipeline`), their batches (`Batch`), and the function `open_pipeline`.

A pipeline is a file in ``pipelines/``. The pipeline has the file's name, and the file sets ``PIPELINE = <its class>``.
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
from fastcifar.data.dataset import Dataset, split_name
from fastcifar.errors import UsageError, unknown
from fastcifar.kernels.reference import OUT_DTYPES
from fastcifar.rng.cursor import clock_of
from fastcifar.rng.philox import Stream, key_of, shuffled

P = TypeVar("P", bound="Pipeline")


class Batch(NamedTuple):
    """A batch of B samples.

    images: (B, 3, S, S) in the dtype of the request, channels_last. labels: (B,) int64. ids: (B,) int64, the rows of
    the samples in the dataset's arrays.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor


@dataclass(frozen=True)
class Request:
    """The options of a pipeline. Raises UsageError for options that no pipeline supports."""

    dataset: Dataset
    split: str = "training"
    """training (or train), validation (or val), labelled (both of these) or test."""
    augment: Augment = field(default_factory=Augment)
    batch_size: int = 128
    """The samples of a batch over all processes."""
    seed: int = 0
    """The seed of order and augmentation, in [0, 2**64)."""
    augment_seed: int | None = None
    """The seed of the augmentation alone, in [0, 2**64), for another view of the same samples. None: the same seed."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    shuffle: bool | None = None
    """Whether each epoch has a new order. None: only if the split is training."""
    drop_last: bool = False
    """Whether to leave out the last batch of an epoch when it is short."""
    split_seed: int | None = None
    """The seed to redraw the 4:1 split with. None keeps the dataset's own split."""
    subset: NDArray[np.int64] | None = field(default=None, compare=False)
    """The ids of the split that the pipeline gives, (n,) int64, ascending. None: all of them."""
    shard: tuple[int, int] = (0, 1)
    """(rank, number of processes): the pipeline gives this rank's equal share of every batch."""
    repeats: bool = True
    """Whether a shard without a sample of its own in a short last batch gets the last sample of the batch, which then
    counts nothing (`last_weight`). False: the shard has one batch less, and no sample is repeated."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "split", split_name(self.split))
        key_of(self.seed)
        key_of(self.draw_seed)
        if self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size} must be at least 1")
        if self.batch_size % self.shard[1]:
            raise UsageError(
                f"batch size {self.batch_size} cannot be shared out to {self.shard[1]} processes equally; it is the "
                f"size of all their batches together: choose a multiple of {self.shard[1]}"
            )
        if self.dtype not in OUT_DTYPES:
            raise UsageError(f"dtype {self.dtype} is not one of {', '.join(map(str, OUT_DTYPES))}")

    @property
    def draw_seed(self) -> int:
        """The seed of the augmentation, in [0, 2**64)."""
        return self.seed if self.augment_seed is None else self.augment_seed

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """The ids of the samples, (N,) int64, ascending."""
        return self.dataset.ids(self.split, self.split_seed) if self.subset is None else self.subset

    @property
    def shuffles(self) -> bool:
        """Whether each epoch has a new order."""
        return self.split == "training" if self.shuffle is None else self.shuffle

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the shard's ids, (n,) int64, in the order of ``epoch`` (>= 0); ascending unless shuffled."""
        whole = shuffled(self.ids, self.seed, Stream.ORDER, epoch) if self.shuffles else self.ids
        return whole if self.places is None else whole[self.places]

    @property
    def samples(self) -> int:
        """The number of the shard's samples in an epoch, including a short last batch."""
        return len(self.ids) if self.places is None else len(self.places)

    @property
    def share(self) -> int:
        """The number of the shard's samples in a full batch."""
        return self.batch_size // self.shard[1]

    @cached_property
    def places(self) -> NDArray[np.int64] | None:
        """The positions of the shard's samples in an epoch's order, (n,) int64; None if the shard has all samples.

        A short last batch may have no sample for a shard: see `repeats`.
        """
        if self.shard == (0, 1):
            return None
        full = len(self.ids) // self.batch_size * self.batch_size
        shared = np.arange(full).reshape(-1, self.shard[1], self.share)[:, self.shard[0]].ravel()
        rest = np.arange(full, len(self.ids))
        mine = self._last_part()
        return np.concatenate([shared, mine if len(mine) or not self.repeats else rest[-1:]])

    @property
    def last_weight(self) -> float:
        """The weight of the shard's mean over a short last batch; 1 if that batch is full.

        With these weights, the mean over the shards is the mean over the batch.
        """
        rest = len(self.ids) % self.batch_size
        return len(self._last_part()) * self.shard[1] / rest if rest else 1.0

    def _last_part(self) -> NDArray[np.int64]:
        """Return the positions of the shard's samples in the short last batch; empty if the shard has none."""
        rest = len(self.ids) % self.batch_size
        return np.array_split(np.arange(len(self.ids) - rest, len(self.ids)), self.shard[1])[self.shard[0]]

    def batches(self) -> int:
        """Return the number of the shard's batches in an epoch."""
        full, rest = divmod(len(self.ids), self.batch_size)
        return full + (rest > 0 and not self.drop_last and (self.repeats or len(self._last_part()) > 0))


class Renderer(ABC):
    """Makes batches with kernel launches alone, so that a CUDA graph can record them.

    It copies nothing from the host and waits for nothing.
    """

    @abstractmethod
    def order(self, epoch: int) -> Tensor:
        """Return the ids in the order of ``epoch``, (N,) int64 on the device."""

    @abstractmethod
    def clock(self, epoch: int) -> Tensor:
        """Return the clock for the start of ``epoch``, (3,) int64 on the device: see `rng.cursor.clock_of`."""

    @abstractmethod
    def empty(self, n: int) -> Batch:
        """Return memory on the device for a batch of n samples, not initialised."""

    @abstractmethod
    def render(self, order: Tensor, clock: Tensor, out: Batch) -> None:
        """Write the samples [n * B, (n + 1) * B) of the order into ``out``, a batch of B samples.

        The kernels read the seed, the epoch and n from the clock when they run: see `rng.cursor.clock_of`.
        """


class Pipeline(ABC):
    """Gives the batches of a Request, epoch by epoch. A pipeline is a context manager that closes the pipeline at exit.

    A file may offer its pipeline in several forms. ``NAME:FORM`` selects a form, ``NAME`` the plain form "".
    """

    forms: ClassVar[tuple[str, ...]] = ("",)
    shares: ClassVar[bool] = False
    """Whether the pipeline can give a shard of each batch (`Request.shard`)."""
    differs: str = ""
    """The difference from the reference's pixels, and its reason; empty if they are equal to the dtype's rounding."""
    deviating: float = 1.0
    """For a pipeline that differs: the share of values, in [0, 1], whose error may exceed float32 rounding."""

    def __init__(self, request: Request, form: str = "") -> None:
        self.request, self.form = request, form

    @property
    def exact(self) -> bool:
        """Whether the pixels equal the reference's, up to the rounding of the dtype."""
        return not self.differs

    @classmethod
    def missing(cls, form: str) -> str | None:
        """Return why this form of the pipeline cannot run on this machine, with the cure; None if it can."""
        return None

    @classmethod
    def refuses(cls, request: Request, form: str) -> str | None:
        """Return why the pipeline's form ``form`` cannot serve the request, and the cure, for example for a missing
        file; None if it can. A form is a variant such as ``stock`` in ``ffcv:stock``."""
        return None

    def __len__(self) -> int:
        return self.request.batches()

    @abstractmethod
    def epoch(self, k: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch k >= 0, a pure function of the request and k. The caller may stop at any batch.

        start: the number of the first batch. The pipeline makes no image of the batches before it.

        Only one epoch is active at a time: a new epoch may end the previous one, whose iterator then raises
        UsageError. A closed pipeline raises UsageError too. An error in a worker is raised here.
        """

    def clock(self, k: int) -> Tensor:
        """Return the clock for the start of epoch k, on the request's device: see `rng.cursor.clock_of`."""
        return clock_of(self.request.seed, k, self.request.device)

    def renderer(self) -> Renderer | None:
        """Return a renderer for the batches, or None if kernel launches alone cannot make them."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Release threads and memory. It is safe to call this twice."""

    def __enter__(self: P) -> P:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pipeline_names() -> list[str]:
    """Return the names of all pipelines and forms: ``NAME`` or ``NAME:FORM``, from the files in ``pipelines/``."""
    return [f"{name}:{form}" if form else name for name in _files() for form in _class_of(name).forms]


def available() -> dict[str, str | None]:
    """Return every pipeline name with None if it can run here, else with the reason and the cure."""
    return {name: _class_of(name).missing(name.partition(":")[2]) for name in pipeline_names()}


def _files() -> list[str]:
    package = importlib.import_module("fastcifar.pipelines")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def _class_of(name: str) -> type[Pipeline]:
    pipeline: type[Pipeline] = importlib.import_module(f"fastcifar.pipelines.{name.partition(':')[0]}").PIPELINE
    return pipeline


def require_pipeline(name: str, request: Request) -> type[Pipeline]:
    """Return the class of a pipeline by name (``resident``, ``NAME:FORM``), without opening it.

    Raises UsageError for an unknown name, a pipeline that cannot run here, or a request that it does not support.
    """
    file, _, form = name.partition(":")
    if file not in _files() or form not in _class_of(file).forms:
        raise unknown("pipeline", name, pipeline_names())
    pipeline = _class_of(file)
    if request.shard != (0, 1) and not pipeline.shares:
        raise UsageError(f"pipeline {name!r} does not share batches out to processes; resident does")
    reason = pipeline.missing(form) or pipeline.refuses(request, form)
    if reason:
        raise UsageError(f"pipeline {name!r} cannot be used: {reason}")
    return pipeline


def open_pipeline(name: str, dataset: Dataset, workers: int | None = None, **request: Any) -> Pipeline:
    """Open a pipeline by name (``resident``, ``NAME:FORM``) over ``dataset``. The keywords are the fields of Request.

    workers: the threads or processes that make batches; None: the pipeline's own number. Raises UsageError as
    `require_pipeline` does.
    """
    options, form = Request(dataset, **request), name.partition(":")[2]
    pipeline = require_pipeline(name, options)
    return pipeline(options, form) if workers is None else pipeline(options, form, workers)  # type: ignore[call-arg]
