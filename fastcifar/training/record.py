"""Write a run to the disk while it trains, and resume it from there."""

from typing import Any

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.experiments import PROTOCOLS
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.outcome import Lines, accuracies, diverged
from fastcifar.system.measure import environment
from fastcifar.training.learner import Learner


def context(dataset: Dataset, device: torch.device, mode: str) -> dict[str, Any]:
    """Return the entries of run.json besides the spec: dataset, environment, device and mode."""
    about = {"name": dataset.name, "sha256": dataset.sha256, "classes": list(dataset.classes)}
    return {"dataset": about, "environment": environment(), "device": str(device), "mode": mode}


def resume(learner: Learner, directory: RunDirectory) -> Lines:
    """Restore a run from its checkpoint, and return the lines of its complete epochs. A new run has none."""
    checkpoint = directory.load_tensors("checkpoint", learner.device)
    if checkpoint:
        learner.restore(*checkpoint)
    return directory.keep_metrics(learner.epoch)


def record(learner: Learner, directory: RunDirectory, lines: Lines, line: dict[str, Any]) -> None:
    """Add the line of an epoch to a run's lines, and write it and the checkpoint to the disk."""
    spec, epoch = learner.spec, {"epoch": learner.epoch, "model": learner.spec.model}
    lines.append(line)
    # In this order, a kill between any two writes leaves files that the next session can repair.
    if not diverged(lines) and PROTOCOLS[spec.protocol].keeps(accuracies(lines)):
        directory.save_tensors("model", learner.model.state_dict(), epoch)
    directory.append_metrics(line)
    directory.save_tensors("checkpoint", *learner.state())
