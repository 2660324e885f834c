"""Train a stack of runs: epochs, validation, and for each run its own end, checkpoints and resumption."""

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.errors import DoesNotFit, FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.models.build import count_parameters
from fastcifar.packs.feed import Feed
from fastcifar.packs.options import Callbacks, PackOptions
from fastcifar.packs.stacked import Stacked
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.outcome import Lines, epoch_line, over, summary_of
from fastcifar.runs.spec import RunSpec
from fastcifar.system.devices import forget_peak, give_back
from fastcifar.training.batches import requests
from fastcifar.training.learner import Learner, mean_loss
from fastcifar.training.record import context, prepared, resume
from fastcifar.training.schedule import last_rate
from fastcifar.training.steps import Captured, Eager

WRITERS = 8  # threads that write the files of an epoch, each of one run at a time
WAITING = 256 << 20  # bytes of files that may wait for them
STAYING = {"cuda": 0.75}
"""By device type: the share of a stack's runs that must still train, or else they are stacked anew. Until then the
others train in vain. On a GPU a new stack, with its graph, takes as long as some epochs; elsewhere the share is 1."""
NO_MEMORY = ("can't allocate memory", "not enough memory")  # parts of the messages of torch's CPU allocator


@dataclass(eq=False)
class Member:
    """A run of a stack: its learner, its directory and its lines of metrics.jsonl."""

    learner: Learner
    directory: RunDirectory
    lines: Lines

    @property
    def spec(self) -> RunSpec:
        return self.learner.spec


@dataclass(frozen=True)
class Packing:
    """The dataset, device, options and callbacks that all runs of a stack share."""

    dataset: Dataset
    device: torch.device
    options: PackOptions
    callbacks: Callbacks


def train_stacked(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    out: Path,
    device: torch.device,
    options: PackOptions,
    callbacks: Callbacks,
) -> None:
    """Train runs of one shape as one program, or resume them, each in its directory under ``out``.

    options: its way is one of `names.STACKED`; its mode is "none", or "graph" on CUDA. Each run ends after the same
    epoch as it would alone, and then leaves the stack. Where memory is short, halves of the stack train one after
    another. ``callbacks.ended`` gets the error of a run that fails. Raises Stopped where a callback raises it.
    """
    packing, ended = Packing(dataset, device, options, callbacks), callbacks.ended
    with contextlib.ExitStack() as locks:
        unfinished = []
        for spec in specs:
            directory = RunDirectory.of(spec, out)
            try:
                if spec.dataset != dataset.sha256:
                    raise UsageError(
                        f"the run belongs to dataset {spec.dataset[:12]}, not to {dataset.sha256[:12]}; "
                        "give the run's own dataset"
                    )
                locks.enter_context(directory.locked())
                directory.require_trust(dataset.verified)
                summary = directory.summary()
            except FastcifarError as error:
                ended(spec, error)
                continue
            if summary is None:
                unfinished.append((spec, directory))
            else:
                ended(spec, summary)
        if unfinished:
            _within_memory(unfinished, packing, say_earlier=True)


def _within_memory(runs: Sequence[tuple[RunSpec, RunDirectory]], packing: Packing, say_earlier: bool) -> None:
    """Train runs as one stack, or as halves of it where the stack takes too much memory."""
    forget_peak(packing.device)  # so that the peak does not include an earlier stack
    try:
        _train(runs, packing, say_earlier)
        return
    except (RuntimeError, DoesNotFit) as error:
        if not is_shortage(error):
            raise
        reason = str(error).strip().splitlines()[0]
    give_back(packing.device)
    going = [(spec, directory) for spec, directory in runs if directory.summary() is None]
    if len(going) == 1:
        spec, _ = going[0]
        packing.callbacks.ended(
            spec,
            FastcifarError(
                f"{packing.device} has no memory for {spec.label}, not even alone ({reason}); choose a smaller batch "
                "with --set batch_size, or stop other programs that use its memory"
            ),
        )
        return
    half = -(-len(going) // 2)
    packing.options.say(
        f"{len(going)} runs of {going[0][0].model} do not fit on {packing.device} together; now {half} train at a time"
    )
    for part in (going[:half], going[half:]):
        if part:
            _within_memory(part, packing, say_earlier=False)


def is_shortage(error: Exception) -> bool:
    """Return whether an error reports too little memory, so that half as many runs may succeed."""
    return isinstance(error, torch.OutOfMemoryError | DoesNotFit) or any(text in str(error) for text in NO_MEMORY)


def _train(runs: Sequence[tuple[RunSpec, RunDirectory]], packing: Packing, say_earlier: bool) -> None:
    members = [member for member in (_opened(*run, packing, say_earlier) for run in runs) if member is not None]
    members = [member for member in members if not _finished(member, packing)]
    if not members:
        return
    arguments = [requests(member.spec, packing.device) for member in members]
    behind = [member.learner.epoch for member in members]
    pipeline, dataset = members[0].spec.pipeline, packing.dataset
    with (
        Feed.open(pipeline, dataset, [training for training, _ in arguments], behind) as training,
        Feed.open(pipeline, dataset, [validation for _, validation in arguments], behind) as validation,
    ):
        epoch = 0
        while members:
            stack = Stacked([member.learner for member in members], training.which, packing.options.way)
            steps = _steps(stack, training, packing.options.mode)
            staying, least = members, STAYING.get(packing.device.type, 1.0) * len(members)
            while staying and len(staying) >= least:
                epoch += 1
                _epoch(epoch, members, staying, stack, steps, validation, packing)
                staying = [member for member in staying if not _finished(member, packing)]
            places = [n for n, member in enumerate(members) if member in staying]
            members = staying
            training.keep(places)
            validation.keep(places)
            del stack, steps  # freed first: memory may not hold this stack and the smaller one that follows
            give_back(packing.device)


def _opened(spec: RunSpec, directory: RunDirectory, packing: Packing, say_earlier: bool) -> Member | None:
    """Return a run at its last checkpoint.

    If its directory is damaged, pass the error to ``callbacks.ended`` and return None.
    """
    try:
        learner = Learner.new(spec, len(packing.dataset.classes), packing.device)
        directory.start(spec, context(packing.dataset, packing.device, packing.options.way))
        member = Member(learner, directory, resume(learner, directory))
    except FastcifarError as error:
        packing.callbacks.ended(spec, error)
        return None
    if say_earlier:
        for line in member.lines:
            packing.callbacks.watch(spec, line)
    return member


def _steps(stack: Stacked, training: Feed, mode: str) -> Eager | Captured:
    renderer = training.renderer() if mode == "graph" else None
    return Eager(stack, training) if renderer is None else Captured(stack, renderer)


def _epoch(
    k: int,
    members: Sequence[Member],
    staying: Sequence[Member],
    stack: Stacked,
    steps: Eager | Captured,
    validation: Feed,
    packing: Packing,
) -> None:
    """Train and validate the pack's k-th epoch, and write a line of metrics and a checkpoint for each run that stays.

    members: the stack's runs. staying: those of them that have not ended, in the same order.
    """
    started, runs = perf_counter(), len(staying)
    means = PROTOCOLS[members[0].spec.protocol].batch_mean_loss
    trained = steps.epoch(k, tell=packing.options.tell)
    validated = stack.evaluate(validation.epoch(k), validation.which, means)
    seconds = (perf_counter() - started) / runs
    rate, stall = runs * sum(trained.sizes) / trained.seconds, trained.waited / trained.seconds
    losses_RS = trained.losses.T
    with ThreadPoolExecutor(min(WRITERS, runs), "fastcifar-record") as pool:  # the threads wait for the disk
        waiting: deque[tuple[int, Future[None]]] = deque()
        for n, member in enumerate(members):
            if member not in staying:
                continue
            member.learner.epoch += 1
            train_loss = mean_loss(losses_RS[n], trained.sizes, means)
            lr = last_rate(member.spec, member.learner.epoch, len(trained.sizes))
            line = epoch_line(member.learner.epoch, train_loss, validated[n], lr, seconds, rate, stall)
            files = prepared(member.learner, member.directory, member.lines, line)
            waiting.append((files.size, pool.submit(files.write)))
            while sum(size for size, _ in waiting) > WAITING:
                waiting.popleft()[1].result()
        for _, future in waiting:
            future.result()
    for member in staying:  # after all are recorded, since a callback may raise Stopped
        packing.callbacks.watch(member.spec, member.lines[-1])


def _finished(member: Member, packing: Packing) -> bool:
    """Return whether a run is over. If so, write its summary and pass it to ``callbacks.ended``."""
    if not over(member.spec, member.lines):
        return False
    on_cuda = packing.device.type == "cuda"
    summary = summary_of(member.spec, member.lines, count_parameters(member.learner.model)) | {
        "mode": packing.options.way,
        "peak_device_bytes": torch.cuda.max_memory_reserved(packing.device) if on_cuda else None,
    }
    member.directory.finish(summary)
    packing.callbacks.ended(member.spec, summary)
    return True


@contextlib.contextmanager
def open_stacked(
    specs: Sequence[RunSpec], dataset: Dataset, device: torch.device, way: str, mode: str = "none"
) -> Iterator[Eager | Captured]:
    """Open the training steps of a stack of new runs, for a trial that validates and saves nothing.

    way: one of `names.STACKED`. mode: one of training.modes.MODES.
    """
    learners = [Learner.new(spec, len(dataset.classes), device) for spec in specs]
    arguments = [requests(spec, device)[0] for spec in specs]
    with Feed.open(specs[0].pipeline, dataset, arguments, [0] * len(specs)) as training:
        yield _steps(Stacked(learners, training.which, way), training, mode)
