"""Train one run on a device with captured steps and with launched steps: the CNN, and a pretrained network at 384.

The modes are timed one after another, not in turns. Each row is written as soon as it is measured, so a call that is
stopped early keeps the earlier rows. The README's claims come from training.py and finetuning.py.
"""

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch

from bench.gpu.bits import difference, in_words
from bench.gpu.device_profile import profiled
from bench.gpu.notes import Notes
from bench.lib import rows
from fastcifar.data.dataset import Dataset
from fastcifar.runs.plan import headline_runs
from fastcifar.runs.spec import RunSpec
from fastcifar.system.cuda import WARM_UP
from fastcifar.system.measure import Clock, Timing
from fastcifar.training import steps
from fastcifar.training.batches import open_pipelines, requests
from fastcifar.training.compile import steps_of
from fastcifar.training.learner import Learner
from fastcifar.training.steps import Captured, Eager, Trained

MODES = ("graph", "none")
REPEATS, PROFILED = 5, 20  # timed epochs or turns; steps under the profiler
LARGE, LARGE_STEPS = "efficientnet_v2_s", 5  # the network at 384 x 384 pixels; steps of a turn


def spec_of(number: int, dataset: Dataset, tiny: bool, **how: Any) -> RunSpec:
    """Return the spec of an experiment's headline configuration in bfloat16, with seed 0. tiny: use batches of 8."""
    small = {"batch_size": 8} if tiny else {}
    return headline_runs(number, dataset, seeds=[0], precision="bfloat16", **small | how)[0]


class Loop:
    """A learner and its steps in a mode of MODES. On the CPU, a stand-in for the graph runs the captured work again."""

    def __init__(self, spec: RunSpec, dataset: Dataset, device: torch.device, mode: str, free: bool = False) -> None:
        """Create the learner and capture its steps. free: let cuDNN choose algorithms that are not deterministic."""
        self.said: list[str] = []
        self.learner = Learner.new(spec, len(dataset.classes), device)
        torch.backends.cudnn.deterministic = not free
        self.learner.say = self.said.append
        self.training, validation = open_pipelines(spec, dataset, device)
        validation.close()
        with Clock(str(device)) as clock:
            self.steps = self._steps(mode, dataset)
        self.record_seconds = clock.seconds

    def _steps(self, mode: str, dataset: Dataset) -> Eager | Captured:
        if mode == "none" or self.learner.device.type == "cuda":
            return steps_of(mode, self.learner, self.training)
        from fastcifar.pipelines.resident.device import OnDevice

        from fastcifar.pipeline import Request

        arguments, timed = requests(self.learner.spec, self.learner.device)[0], steps.TIMED
        steps.TIMED = 1  # Triton's interpreter takes seconds for each step
        try:
            return Captured(self.learner, OnDevice(Request(dataset, **arguments)), twin)
        finally:
            steps.TIMED = timed

    def epoch(self, at_most: int | None = None) -> Trained:
        """Train the next epoch, or its first ``at_most`` batches."""
        trained = self.steps.epoch(self.learner.epoch + 1, at_most)
        self.learner.epoch += 1
        return trained

    def train(self, count: int) -> None:
        """Train ``count`` steps."""
        self.epoch(count)


def twin(warm_up: Callable[[], None], work: Callable[[], None]) -> Callable[[], None]:
    """Stand in for a CUDA graph on the CPU: run the warm-up, and return the work itself as the replay."""
    for _ in range(WARM_UP):
        warm_up()
    return work


@contextmanager
def opened_loop(notes: Notes, spec: RunSpec, dataset: Dataset, mode: str, free: bool = False) -> Iterator[Loop]:
    """Open a loop that has the device's memory to itself, and restore cuDNN's setting afterwards."""
    notes.release()
    before = torch.backends.cudnn.deterministic
    try:
        loop = Loop(spec, dataset, notes.device, mode, free)
        try:
            yield loop
        finally:
            loop.training.close()
    finally:
        torch.backends.cudnn.deterministic = before


def captured(notes: Notes) -> None:
    """Write a row that compares a few steps of the CNN, replayed as one graph, with the same steps launched singly."""
    with notes.trying("captured step", "captured step"), notes.images(5000) as dataset:
        spec, few = spec_of(2, dataset, notes.tiny), 2 if notes.tiny else 30
        losses, state, seconds = {}, {}, {}
        for mode in MODES:
            with opened_loop(notes, spec, dataset, mode) as loop:
                losses[mode] = loop.epoch(few).losses
                state[mode] = {name: value.clone() for name, value in loop.learner.state()[0].items()}
                seconds[mode] = loop.record_seconds
        result = difference(losses["graph"], losses["none"])
        apart = [name for name, value in state["none"].items() if not torch.equal(value, state["graph"][name])]
        result["verified"] = result["verified"] and not apart
        says = f"captured step of the CNN: recorded in {seconds['graph']:.2f} s; {few} losses against launched steps: "
        says += f"{in_words(difference(losses['graph'], losses['none']))}; "
        says += f"{len(apart)} of {len(state['none'])} tensors of weights and moments differ"
        notes.row("captured step", says, model="cnn", dtype=spec.precision, batch_size=spec.batch_size, steps=few,
                  record_seconds=seconds["graph"], tensors_apart=apart[:10], **result)  # fmt: skip


def cnn(notes: Notes) -> None:
    """Write a row of epochs and a row of kernels for each mode of MODES, then a row that compares their losses. The
    last epochs measure a graph where cuDNN need not choose deterministic algorithms.
    """
    losses: dict[str, Any] = {}
    with notes.images(50_000) as dataset:
        spec = spec_of(2, dataset, notes.tiny)
        for mode, free in (*((mode, False) for mode in MODES), (MODES[0], True)):
            about = f"cnn {mode}{', cuDNN free to choose' if free else ''}"
            with notes.trying("epoch", about), opened_loop(notes, spec, dataset, mode, free) as loop:
                first = loop.epoch().losses
                losses |= {} if free else {mode: first}
                trained = [loop.epoch() for _ in range(1 if notes.tiny else REPEATS)]
                timing = Timing(tuple(each.seconds for each in trained), ())
                p50 = step_p50(loop, notes.device)
                speed = rows.rates(timing, sum(trained[0].sizes))
                says = f"{about}, batch {spec.batch_size}, {spec.precision}: {timing.median:.3f} s an epoch, "
                says += f"{speed['images_per_s']:,.0f} images/s, p50 of a step {p50:,.0f} us"
                notes.row(
                    "epoch", says, model="cnn", mode=mode, dtype=spec.precision, batch_size=spec.batch_size,
                    recipe=spec.recipe, seconds=timing.median, step_us_p50=p50, steps=len(trained[0].sizes),
                    deterministic=not free,
                    record_seconds=loop.record_seconds, stall=trained[-1].waited / trained[-1].seconds,
                    peak_device_bytes=peak(notes.device), **speed,
                )  # fmt: skip
                profiled(notes, about, loop.train, 1 if notes.tiny else PROFILED)
    if len(losses) == len(MODES):
        result = difference(losses["graph"], losses["none"])
        notes.row("same losses", f"cnn, first epoch, graph against none: losses of {in_words(result)}", **result)


def step_p50(loop: Loop, device: torch.device) -> float:
    """Return the median microseconds from the end of a step to the end of the next one, over one epoch."""
    stamps: list[Any] = []

    def stamped(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            done = step(*arguments)
            if device.type == "cuda":
                stamps.append(torch.cuda.Event(enable_timing=True))
                stamps[-1].record()
            else:
                stamps.append(perf_counter())
            return done

        return call

    owner, name = (loop.steps, "_replay") if isinstance(loop.steps, Captured) else (loop.learner, "step")
    before = getattr(owner, name)
    setattr(owner, name, stamped(before))
    try:
        loop.epoch()
    finally:
        setattr(owner, name, before)
    pairs = list(pairwise(stamps))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return 1e3 * statistics.median(first.elapsed_time(second) for first, second in pairs)
    return 1e6 * statistics.median(second - first for first, second in pairs)


def peak(device: torch.device) -> int | None:
    """Return the most bytes of the device's memory that torch has reserved; None on the CPU."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None


def pretrained(notes: Notes) -> None:
    """Write a row for each mode of MODES on a large network with large images: data stall, micro-batch and speed."""
    model = "mobilenet_v3_small" if notes.tiny else LARGE
    small = {"batch_size": 4, "recipe": "erasing"} if notes.tiny else {}
    with notes.images(2500, few=20) as dataset:
        spec = spec_of(4, dataset, notes.tiny, model=model, **small)
        for mode in reversed(MODES):  # launched steps first: capturing may fail
            about = f"{model} {spec.recipe} {mode}"
            with notes.trying("pretrained", about), opened_loop(notes, spec, dataset, mode) as loop:
                _pretrained(notes, about, spec, loop, mode)


def _pretrained(notes: Notes, about: str, spec: RunSpec, loop: Loop, mode: str) -> None:
    count = 2 if notes.tiny else LARGE_STEPS
    loop.epoch(count)
    trained = [loop.epoch(count) for _ in range(1 if notes.tiny else REPEATS)]
    speed = rows.rates(Timing(tuple(each.seconds for each in trained), ()), sum(trained[0].sizes))
    stall = statistics.median(each.waited / each.seconds for each in trained)
    micro = min(loop.learner.micro_batch, spec.batch_size)
    shrunk = "whole" if micro == spec.batch_size else f"{micro} at a time"
    says = f"{about}, batch {spec.batch_size} {shrunk}, {spec.precision}: {speed['images_per_s']:,.0f} images/s, "
    says += f"stall {stall:.1%}"
    notes.row(
        "pretrained", says, model=spec.model, mode=mode, dtype=spec.precision, batch_size=spec.batch_size,
        recipe=spec.recipe, micro_batch=micro, said=loop.said, stall=stall, steps=count,
        step_seconds=statistics.median(each.seconds / len(each.sizes) for each in trained),
        record_seconds=loop.record_seconds, peak_device_bytes=peak(notes.device), **speed,
    )  # fmt: skip
