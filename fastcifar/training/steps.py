"""The steps of an epoch: launched one by one (`Eager`), or replays of one CUDA graph (`Captured`). Results agree."""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fastcifar.pipeline import Batch, Pipeline, Renderer
from fastcifar.rng.cursor import BATCH
from fastcifar.runs.spec import RunSpec
from fastcifar.system.cuda import Record, recorded
from fastcifar.system.devices import on
from fastcifar.system.measure import Clock
from fastcifar.training.pace import Pace, Tell

TIMED = 20  # renderings, and replays at most, that are timed to measure the share of a step that makes pixels


class Trainee(Protocol):
    """The type of objects that train in steps: a `learner.Learner`, or several as one in `packs.stacked.Stacked`."""

    spec: RunSpec
    device: torch.device
    network: Any
    """The compiled network; None where a step runs the plain model and needs no clock."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a step's losses: () for one run, (R,) for R runs."""
        ...

    def begin(self, steps: int) -> None: ...

    def step(self, batch: Batch, clock: Tensor | None = None, weight: float = 1.0) -> Tensor: ...

    def snapshot(self) -> tuple[Any, Any]: ...

    def restore(self, tensors: Any, note: Any) -> None: ...


class Trained(NamedTuple):
    """The result of the training steps of an epoch. The device has completed these steps."""

    losses: Tensor
    """The mean loss of each batch, (n,) float64 in host memory; (n, R) for R runs together."""
    sizes: list[int]
    """The samples of each batch."""
    seconds: float
    """The duration of the steps."""
    waited: float
    """The part of ``seconds`` in which the network waited for batches. For captured steps: the seconds of the kernels
    that make pixels."""


class Eager:
    """Steps that the host launches one by one, on the batches of any pipeline."""

    def __init__(self, learner: Trainee, pipeline: Pipeline) -> None:
        self._learner, self._pipeline = learner, pipeline

    def epoch(self, k: int, at_most: int | None = None, tell: Tell | None = None) -> Trained:
        """Train on the batches of epoch k, or on the first ``at_most`` batches. tell: a callback for reports."""
        started, waited = perf_counter(), Stopwatch()
        pace = Pace(tell, len(self._pipeline))
        self._learner.begin(len(self._pipeline))
        # A compiled network reads seed and epoch from the clock: as plain numbers, they would cause recompilations.
        clock = None if self._learner.network is None else self._pipeline.clock(k)
        losses: list[Tensor] = []
        sizes: list[int] = []
        last = len(self._pipeline) - 1
        for n, batch in enumerate(waited.over(islice(self._pipeline.epoch(k), at_most))):
            weight = self._pipeline.request.last_weight if n == last else 1.0
            losses.append(self._learner.step(batch, clock, weight))
            sizes.append(batch.labels.shape[-1] if weight else 0)
            pace.step(batch.labels.numel(), losses[-1])
        values = torch.stack(losses).double().cpu()
        return Trained(values, sizes, perf_counter() - started, waited.seconds)


class Captured:
    """Steps as one CUDA graph of pixels, network and optimizer, which is replayed for each full batch.

    The step of a short last batch is launched by the host. The values that change (order, epoch and batch number) are
    in device memory. Within an epoch the host does not wait for the device.
    """

    def __init__(self, learner: Trainee, renderer: Renderer, record: Record = recorded) -> None:
        """Capture the step. record: the function that captures it. The learner's state is restored afterwards."""
        self._learner, self._renderer = learner, renderer
        self._order = renderer.order(0).clone()
        self._size = learner.spec.batch_size
        self._full = self._order.shape[-1] // self._size
        self._steps = -(-self._order.shape[-1] // self._size)
        self._clock = renderer.clock(0).clone()
        self._batch = renderer.empty(self._size)
        self._losses = torch.zeros((self._full, *learner.shape), device=learner.device)
        self._pixels_share = 0.0
        if self._full:
            before = learner.snapshot()
            learner.begin(self._steps)
            with on(learner.device):
                self._replay = record(self._warm_up, self._step)
                self._pixels_share = self._share_of_pixels(record)
            learner.restore(*before)

    def epoch(self, k: int, at_most: int | None = None, tell: Tell | None = None) -> Trained:
        """Train on the batches of epoch k, or on the first ``at_most`` full batches.

        Where no batch is full, this trains on the short one. tell: a callback for reports.
        """
        started, order = perf_counter(), self._renderer.order(k)
        start = self._renderer.clock(k)
        self._learner.begin(self._steps)
        self._order.copy_(order)
        self._clock.copy_(start)
        full = self._full if at_most is None else min(at_most, self._full)
        pace, ahead = Pace(tell, self._steps), RunAhead(self._learner.device, full if tell else 0)
        for n in range(full):
            self._replay()
            ahead.wait()
            pace.step(self._size * self._losses[n].numel(), self._losses[n])
        losses, sizes = self._losses[:full], [self._size] * full
        rest = order.shape[-1] - self._full * self._size if at_most is None or not self._full else 0
        if rest:
            short = self._renderer.empty(rest)
            self._renderer.render(order[..., -rest:], start, short)
            losses = torch.cat([losses, self._learner.step(short, start)[None]])
            sizes.append(rest)
        values = losses.double().cpu()
        seconds = perf_counter() - started
        return Trained(values, sizes, seconds, self._pixels_share * seconds)

    def _step(self) -> None:
        self._render()
        loss = self._learner.step(self._batch, self._clock)
        self._losses.index_copy_(0, self._clock[..., BATCH].view(-1)[:1], loss[None])
        self._clock[..., BATCH].add_(1)

    def _warm_up(self) -> None:
        self._clock[..., BATCH].zero_()
        self._step()

    def _render(self) -> None:
        self._renderer.render(self._order, self._clock, self._batch)

    def _render_often(self) -> None:
        for _ in range(TIMED):
            self._render()

    def _share_of_pixels(self, record: Record) -> float:
        """Return the share of a step's time, in [0, 1], that its pixels take when only they are made."""
        self._clock[..., BATCH].zero_()  # the warm-up renders, too, and must not go beyond the last batch
        pixels, steps = record(self._render, self._render_often), min(TIMED, self._full)
        device = str(self._learner.device)
        pixels()  # the first replay of a graph also sends it to the device
        self._replay()
        self._clock[..., BATCH].zero_()
        with Clock(device) as rendering:
            pixels()
        with Clock(device) as stepping:
            for _ in range(steps):
                self._replay()
        return min(1.0, (rendering.seconds / TIMED) / (stepping.seconds / steps))


class RunAhead:
    """Keeps the host at most two fiftieths of an epoch ahead of the device, so that reports say what the device did."""

    def __init__(self, device: torch.device, steps: int) -> None:
        """steps: the steps of the epoch; 0 lets the host run ahead as far as it can."""
        self._every = -(-steps // 50) if device.type == "cuda" else 0
        self._done, self._marks = 0, deque[Any]()

    def wait(self) -> None:
        """Count a step that the host launched, and wait where the device is too far behind."""
        self._done += 1
        if self._every and self._done % self._every == 0:
            self._marks.append(torch.cuda.current_stream().record_event())
            if len(self._marks) > 2:
                self._marks.popleft().synchronize()


class Stopwatch:
    """A counter of the seconds that a loop waits for its next batch (the data stall)."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches. Add the time of waiting for each batch to ``self.seconds``."""
        started = perf_counter()
        for batch in batches:
            self.seconds += perf_counter() - started
            yield batch
            started = perf_counter()
        self.seconds += perf_counter() - started
