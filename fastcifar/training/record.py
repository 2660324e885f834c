"""A run on the disk while it trains: its beginning, each epoch, and taking it up again."""

from typing import Any

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.experiments import PROTOCOLS
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.outcome import Lines, accuracies, diverged
from fastcifar.system.measure import environment
from fastcifar.training.learner import Learner


def context(dataset: Dataset, device: torch.device, mode: str) -> dict[str, Any]:
    """What a run's run.json says beside its spec."""
    about = {"name": dataset.name, "sha256": dataset.sha256, "classes": list(dataset.classes)}
    return {"dataset": about, "environment": environment(), "device": str(device), "mode": mode}


def resume(learner: Learner, directory: RunDirectory) -> Lines:
    """Take up a run where its directory says it was: the lines of its whole epochs."""
    checkpoint = directory.load_tensors("checkpoint", learner.device)
    if checkpoint:
        learner.restore(*checkpoint)
    return directory.keep_metrics(learner.epoch)


def record(learner: Learner, directory: RunDirectory, lines: Lines, line: dict[str, Any]) -> None:
    """Add an epoch to a run's lines and put it on the disk."""
    spec, epoch = learner.spec, {"epoch": learner.epoch, "model": learner.spec.model}
    lines.append(line)
    # in this order, a kill between any two leaves what the next session puts right
    if not diverged(lines) and PROTOCOLS[spec.protocol].keeps(accuracies(lines)):
        directory.save_tensors("model", learner.model.state_dict(), epoch)
    directory.append_metrics(line)
    directory.save_tensors("checkpoint", *learner.state())
