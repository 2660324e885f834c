"""Write a run to the disk while it trains, and resume it from there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, first_line
from fastcifar.experiments import PROTOCOLS
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.outcome import Lines, accuracies, diverged
from fastcifar.show.text import counted
from fastcifar.system.devices import threads
from fastcifar.system.measure import environment
from fastcifar.training.learner import Learner

MOST_THREADS = 4096  # more than any machine has cores


def context(dataset: Dataset, device: torch.device, mode: str) -> dict[str, Any]:
    """Return the entries of run.json besides the spec: dataset, environment, device and mode."""
    about: dict[str, Any] = {"name": dataset.name, "sha256": dataset.sha256, "classes": list(dataset.classes)}
    about |= {"verified": dataset.verified, **dataset.facts()}
    return {"dataset": about, "environment": environment(), "device": str(device), "mode": mode}


@contextmanager
def threads_as_begun(directory: RunDirectory, label: str, say: Callable[[str], None]) -> Iterator[None]:
    """Give torch, within this context, the number of threads that a run began with, because the order in which threads
    add decides the rounding of its metrics. A new run has torch's number.

    label: the run's name. say: a callback for a message where the numbers differ. Raises FastcifarError for a run.json
    without a possible number.
    """
    begun, now = directory.begun(), torch.get_num_threads()
    about = begun.get("environment", {})
    of = about.get("threads", {}) if isinstance(about, dict) else None
    count = of.get("torch", now) if isinstance(of, dict) else None
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_THREADS:
        raise FastcifarError(
            f"{directory.path / 'run.json'} is damaged: its entry environment, threads, torch is {count!r:.40}, no "
            f"number in [1, {MOST_THREADS}]; delete {directory.path} to train it anew"
        )
    if count != now and directory.summary() is None:
        say(f"{label} goes on with {counted(count, 'thread')}, as it began")
    with threads(count):
        yield


def resume(learner: Learner, directory: RunDirectory) -> Lines:
    """Restore a run from its checkpoint, and return the lines of its complete epochs. A new run has none.

    Raises FastcifarError for a damaged checkpoint, and for one that does not belong to the lines.
    """
    checkpoint = directory.load_tensors("checkpoint", learner.device)
    if checkpoint is None:
        if len(directory.metrics()) > 1:  # a kill between the first line and the first checkpoint leaves one
            raise directory.damaged("checkpoint.safetensors", "it is missing beside metrics.jsonl")
        return directory.keep_metrics(0)
    tensors, note = checkpoint
    lines = directory.keep_metrics(note["epoch"])
    directory.check_epoch("checkpoint", note)
    try:
        learner.restore(tensors, note)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:  # the scaler's state may be another one, too
        file = directory.path / "checkpoint.safetensors"
        reason = first_line(error)
        raise FastcifarError(
            f"{file} does not hold the state of {learner.spec.label} ({reason}); {directory.cure}"
        ) from error
    return lines


def record(learner: Learner, directory: RunDirectory, lines: Lines, line: dict[str, Any]) -> None:
    """Add the line of an epoch to a run's lines, and write it and the checkpoint to the disk."""
    prepared(learner, directory, lines, line).write()


class Prepared(NamedTuple):
    """The files of a run's epoch, in memory."""

    size: int
    """Their bytes."""
    write: Callable[[], None]
    """Writes them to the disk, in any thread."""


def prepared(learner: Learner, directory: RunDirectory, lines: Lines, line: dict[str, Any]) -> Prepared:
    """Add the line of an epoch to a run's lines, and return it and the checkpoint for writing.

    The learner may go on meanwhile.
    """
    spec, model = learner.spec, None
    belongs = {"epoch": learner.epoch, "line": directory.next_seal(line), "before": directory.end}
    lines.append(line)
    if not diverged(lines) and PROTOCOLS[spec.protocol].keeps(accuracies(lines)):
        model = directory.content(learner.model.state_dict(), {**belongs, "model": spec.model})
    tensors, note = learner.state()
    checkpoint = directory.content(tensors, {**note, **belongs})

    def write() -> None:
        # In this order, a kill between any two writes leaves files that the next session can repair.
        if model is not None:
            directory.write("model.safetensors", model)
        directory.append_metrics(line)
        directory.write("checkpoint.safetensors", checkpoint)

    return Prepared(len(checkpoint) + len(model or b""), write)
