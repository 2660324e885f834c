"""The interface of input pipelines (`Pipeline`), their batches (`Batch`), and the function `open_pipeline`.

A pipeline of ours is a file in ``pipelines/``. The pipeline has the file's name, and the file sets ``PIPELINE = <its
class>``. `find_pipeline` finds these, and other people's.
"""

import importlib
import inspect
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
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
from fastcifar.system import foreign

GROUP = "fastcifar.pipelines"
"""The group of entry points with which a package brings pipelines: NAME = "package.module:Class"."""

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
    """Return the names of all pipelines and forms, ``NAME`` or ``NAME:FORM``: ours, and those of installed packages."""
    return [f"{name}:{form}" if form else name for name in _names() for form in _forms(name)]


def available() -> dict[str, str | None]:
    """Return every pipeline name with None if it can run here, else with the reason and the cure."""
    return {name: _missing(name) for name in pipeline_names()}


def find_pipeline(pipeline: str | type[Pipeline]) -> tuple[type[Pipeline], str]:
    """Return the class and the form of a pipeline.

    pipeline: ``NAME`` of one of ours or of an installed package, which declares it as an entry point of the group
    GROUP; ``package.module`` or ``FILE.py``, which has ``PIPELINE = <its class>`` (a module lies in the current directory
    or is installed); any of them with ``:FORM``; or the class itself. Raises UsageError for anything else.
    """
    if isinstance(pipeline, str):
        name, _, form = pipeline.partition(":")
        found = _class_of(name)
    else:
        found, form = _checked(pipeline, "the pipeline"), ""
        name = found.__module__
    if form not in found.forms:
        raise unknown("pipeline", pipeline, [f"{name}:{known}" if known else name for known in found.forms])
    return found, form


def require_pipeline(pipeline: str | type[Pipeline], request: Request) -> type[Pipeline]:
    """Return the class of a pipeline, as `find_pipeline` does, without opening it.

    Raises UsageError for an unknown name, a pipeline that cannot run here, or a request that it does not support.
    """
    found, form = find_pipeline(pipeline)
    name = repr(pipeline) if isinstance(pipeline, str) else found.__name__
    if request.shard != (0, 1) and not found.shares:
        raise UsageError(f"pipeline {name} does not share batches out to processes; resident does")
    reason = found.missing(form) or found.refuses(request, form)
    if reason:
        raise UsageError(f"pipeline {name} cannot be used: {reason}")
    return found


def open_pipeline(
    pipeline: str | type[Pipeline], dataset: Dataset, workers: int | None = None, **request: Any
) -> Pipeline:
    """Open a pipeline over ``dataset``. The keywords are the fields of Request.

    pipeline: a name such as ``resident`` or ``NAME:FORM``, or a class, as `find_pipeline` takes it. workers: the
    threads or processes that make batches; None: the pipeline's own number. Raises UsageError as `require_pipeline`
    does, and for workers of a pipeline that does not take their number.
    """
    options, (_, form) = Request(dataset, **request), find_pipeline(pipeline)
    found = require_pipeline(pipeline, options)
    if workers is None:
        return found(options, form)
    if len(inspect.signature(found).parameters) < 3:
        raise UsageError(f"pipeline {pipeline} takes no number of workers; leave workers={workers} out")
    return found(options, form, workers)  # type: ignore[call-arg]


def _ours() -> list[str]:
    package = importlib.import_module("fastcifar.pipelines")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def _installed() -> dict[str, list[EntryPoint]]:
    """Return the entry points of the group GROUP by name."""
    return _entry_points(tuple(sys.path))


@cache
def _entry_points(_path: tuple[str, ...]) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    return found


def _names() -> list[str]:
    return sorted({*_ours(), *_installed()})


def _class_of(name: str) -> type[Pipeline]:
    """Return the class of a pipeline by its name without a form. Raises UsageError where there is none."""
    points, what = _installed().get(name, []), f"pipeline {name!r}"
    owners = (["fastcifar"] if name in _ours() else []) + [_owner(point) for point in points]
    if len(owners) > 1:
        raise UsageError(
            f"{what}: {' and '.join(owners)} both have a pipeline of this name; uninstall one of them, or write "
            f"{points[-1].module} for the one of {owners[-1]}"
        )
    if points:
        try:
            loaded = points[0].load()
        except Exception as error:  # foreign code raises errors of any kind
            raise UsageError(
                f"{what}: {owners[0]} declares it as {points[0].value}, whose import raises {foreign.said(error)}; "
                "repair or uninstall the package"
            ) from error
        return _checked(loaded, f"{what} of {owners[0]}")
    if owners:
        ours: type[Pipeline] = importlib.import_module(f"fastcifar.pipelines.{name}").PIPELINE
        return ours
    if not (name.endswith(".py") or all(part.isidentifier() for part in name.split("."))):
        raise unknown("pipeline", name, pipeline_names())
    try:
        module = foreign.imported(name, what)
    except foreign.NoSuchModule as error:
        known = unknown("pipeline", name, pipeline_names())
        raise UsageError(f"{known}, and package.module for your own; there is no such module") from error
    if not hasattr(module, "PIPELINE"):
        classes = foreign.public(module, lambda value: isinstance(value, type) and value.__module__ == name)
        raise UsageError(
            f"{what}: the module has no PIPELINE; add the line PIPELINE = {classes[0] if classes else 'YourClass'}"
        )
    return _checked(module.PIPELINE, f"{what}: its PIPELINE")


def _owner(point: EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist is not None else point.value


def _checked(found: Any, what: str) -> type[Pipeline]:
    """Return a class of pipelines. Raises UsageError for anything else, and for a class that lacks a method."""
    if not (isinstance(found, type) and issubclass(found, Pipeline)):
        raise UsageError(f"{what} is {found!r:.80}, no class of pipelines; derive one from fastcifar.Pipeline")
    lacking = sorted(getattr(found, "__abstractmethods__", ()))
    if lacking:
        raise UsageError(f"{what} is {found.__name__}, which lacks {' and '.join(lacking)}; define them")
    return found


def _forms(name: str) -> tuple[str, ...]:
    """Return the forms of a pipeline; only the plain one where its class cannot be found."""
    try:
        return _class_of(name).forms
    except UsageError:
        return ("",)


def _missing(pipeline: str) -> str | None:
    try:
        found, form = find_pipeline(pipeline)
    except UsageError as error:
        return str(error)
    return found.missing(form)
