"""The interface of input pipelines (`Pipeline`), their batches (`Batch`), and what makes batches on a device alone."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from typing import ClassVar, NamedTuple, TypeVar

from torch import Tensor

from fastcifar.pipeline.request import Request
from fastcifar.rng.cursor import clock_of

P = TypeVar("P", bound="Pipeline")


class Batch(NamedTuple):
    """A batch of B samples.

    images: (B, 3, S, S) in the dtype of the request, channels_last. labels: (B,) int64. ids: (B,) int64, the rows of
    the samples in the dataset's arrays.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor


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

    @property
    def kind(self) -> Hashable:
        """A value that is equal for renderers that write the same batch from the same order and clock."""
        return id(self)

    def render_groups(self, groups: Tensor, order: Tensor, clock: Tensor, out: Batch) -> None:
        """Do the work of `render` for some groups of runs. A renderer may do it in fewer launches.

        groups: int64, on the device. order, clock, out: those of `render`, with a leading dimension of all groups.
        """
        for group in groups.tolist():
            self.render(order[group], clock[group], Batch(*(part[group] for part in out)))


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
    hindered: str = ""
    """What makes the pipeline slower on this machine than it can be, and the cure; empty if nothing is known."""

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
