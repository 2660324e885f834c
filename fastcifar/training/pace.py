"""Reports from within an epoch, for people who wait: the steps so far, images/s, the loss, and the time left."""

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from fastcifar.show.text import duration

if TYPE_CHECKING:
    from torch import Tensor

FIRST, EVERY = 2.0, 1.0
"""The seconds until the first report of an epoch, and from one report to the next. A shorter epoch has no report."""


class Steps(NamedTuple):
    """A report. done, of: steps. images_per_s: over the epoch so far. loss: of the last step, in nats. seconds_left: of
    the epoch's training steps.
    """

    done: int
    of: int
    images_per_s: float
    loss: float
    seconds_left: float

    @property
    def parts(self) -> list[str]:
        """The report as parts of a text for people, the most important one first."""
        return [
            f"step {self.done:,}/{self.of:,}", f"{self.images_per_s:,.0f} images/s", f"loss {self.loss:.3f}",
            f"{duration(self.seconds_left)} left",
        ]  # fmt: skip

    @property
    def text(self) -> str:
        """The report as text for people."""
        return ", ".join(self.parts)


Tell = Callable[[Steps], None]
"""A callback for reports. It may be called from any thread."""


class Pace:
    """The steps of an epoch so far. It calls ``tell`` with a report from time to time; None reports nothing."""

    def __init__(self, tell: Tell | None, of: int) -> None:
        self.tell, self._of = tell, of
        self._done = self._images = 0
        self._started = perf_counter()
        self._next = self._started + FIRST

    def step(self, images: int, loss: "Tensor") -> None:
        """Count a step of a number of images. loss: of the step, () or (R,), where those that are NaN do not count.

        It is read only for a report, because on CUDA reading it waits for the device.
        """
        if self.tell is None:
            return
        self._done += 1
        self._images += images
        if perf_counter() < self._next:
            return
        value = float(loss.float().nanmean())
        seconds = perf_counter() - self._started
        left = seconds * (self._of - self._done) / self._done
        self.tell(Steps(self._done, self._of, self._images / seconds, value, left))
        self._next = perf_counter() + EVERY
