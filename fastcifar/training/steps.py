"""The steps of an epoch, one after another (`Eager`) or as replays of one CUDA graph (`Captured`): the same numbers."""

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

TIMED = 20  # replays and renderings, to know how much of a step its pixels are


class Trainee(Protocol):
    """What learns in steps: a `learner.Learner`, or several as one, `packs.stacked.Stacked`."""

    spec: RunSpec
    device: torch.device
    network: Any
    """None where a step needs no clock"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a step's losses: () or (R,)."""
        ...

    def step(self, batch: Batch, clock: Tensor | None = None, weight: float = 1.0) -> Tensor: ...

    def snapshot(self) -> tuple[Any, Any]: ...

    def restore(self, tensors: Any, note: Any) -> None: ...


class Trained(NamedTuple):
    """An epoch's steps, done: nothing is left to wait for."""

    losses: Tensor
    """(n,) float64 in host memory: each batch's mean; (n, R) of R runs together"""
    sizes: list[int]
    """samples of each batch"""
    seconds: float
    waited: float
    """seconds of these that the network waited for its batches; of a captured step, that its pixels' kernels took"""


class Eager:
    """Each step is launched by the host, on the batches of any pipeline."""

    def __init__(self, learner: Trainee, pipeline: Pipeline) -> None:
        self._learner, self._pipeline = learner, pipeline

    def epoch(self, k: int, at_most: int | None = None) -> Trained:
        """Train on the batches of epoch k, or the first ``at_most`` of them."""
        started, waited = perf_counter(), Stopwatch()
        # of a compiled network: numbers that it was compiled for would have it compiled again when they change
        clock = None if self._learner.network is None else self._pipeline.clock(k)
        losses: list[Tensor] = []
        sizes: list[int] = []
        last = len(self._pipeline) - 1
        for n, batch in enumerate(waited.over(islice(self._pipeline.epoch(k), at_most))):
            weight = self._pipeline.request.last_weight if n == last else 1.0
            losses.append(self._learner.step(batch, clock, weight))
            sizes.append(batch.labels.shape[-1] if weight else 0)
        values = torch.stack(losses).double().cpu()
        return Trained(values, sizes, perf_counter() - started, waited.seconds)


class Captured:
    """Pixels, network and Adam as one CUDA graph, replayed for each full batch; a short last one is launched.

    What changes is in device memory: order, epoch and batch number. Within an epoch the host waits for nothing.
    """

    def __init__(self, learner: Trainee, renderer: Renderer, record: Record = recorded) -> None:
        """record: how a step is recorded. The learner is as before when this returns."""
        self._learner, self._renderer = learner, renderer
        self._order = renderer.order(0).clone()
        self._size = learner.spec.batch_size
        self._full = self._order.shape[-1] // self._size
        self._clock = renderer.clock(0).clone()
        self._batch = renderer.empty(self._size)
        self._losses = torch.zeros((self._full, *learner.shape), device=learner.device)
        self._pixels_share = 0.0
        if self._full:
            before = learner.snapshot()
            with on(learner.device):
                self._replay = record(self._warm_up, self._step)
                self._pixels_share = self._share_of_pixels(record)
            learner.restore(*before)

    def epoch(self, k: int, at_most: int | None = None) -> Trained:
        """Train on the batches of epoch k, or the first ``at_most`` full ones; where none is full, on the short one."""
        started, order = perf_counter(), self._renderer.order(k)
        start = self._renderer.clock(k)
        self._order.copy_(order)
        self._clock.copy_(start)
        full = self._full if at_most is None else min(at_most, self._full)
        for _ in range(full):
            self._replay()
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
        """Of a step's time, [0, 1]: that of its pixels when nothing else runs."""
        self._clock[..., BATCH].zero_()  # a warm-up renders, too, and must not render a batch beyond the last
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


class Stopwatch:
    """Counts the seconds that a loop waits for its next item: the data stall."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches, timed."""
        started = perf_counter()
        for batch in batches:
            self.seconds += perf_counter() - started
            yield batch
            started = perf_counter()
        self.seconds += perf_counter() - started
