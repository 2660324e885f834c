"""Run directories with chosen results, in the format of training, for tests of reports and tables."""

from pathlib import Path

import numpy as np
import torch

from fastcifar.experiments import experiment
from fastcifar.report.predictions import NAME
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec

CLASSES = tuple("0123456789")
CONTEXT = {
    "dataset": {"name": "digits", "sha256": "ab" * 32, "classes": list(CLASSES)},
    "environment": {"cpu": "a processor", "cores": 2, "python": "3.11", "versions": {"torch": "2.x"},
                    "commit": "c0ffee" * 6, "dirty": False},
    "device": "cpu",
}  # fmt: skip


def spec_of(number=2, protocol="sound", seed=0, epochs=100, **chosen):
    values = experiment(number, protocol).configuration(**chosen)
    return RunSpec(
        experiment=number, protocol=protocol, seed=seed, dataset="ab" * 32, precision="float32", epochs=epochs,
        **{"weights": "none"} | values,
    )  # fmt: skip


def lines_of(accuracies, train=None, val=None):
    """Return lines of metrics.jsonl. Unless losses are given, they fall as accuracy rises."""
    falling = [None if a is None else 2.5 * (1 - a) for a in accuracies]
    return [
        {
            "epoch": n, "train_loss": t, "val_loss": v, "val_accuracy": a, "seconds": 2.0, "images_per_s": 1000.0,
            "stall": 0.01,
        }
        for n, (a, t, v) in enumerate(zip(accuracies, train or falling, val or falling, strict=True), 1)
    ]  # fmt: skip


def write_run(out: Path, spec, accuracies, *, train=None, val=None, status="finished", right=None, augmented=None):
    """Write a run directory. right, augmented: (N,) bool, whether each validation image is predicted correctly, clean
    and augmented.
    """
    directory = RunDirectory.of(spec, out)
    with directory.locked():
        directory.start(spec, CONTEXT)
        for line in lines_of(accuracies, train, val):
            directory.append_metrics(line)
        if status is None:
            return directory
        known = [a for a in accuracies if a is not None]
        best = max(range(len(known)), key=known.__getitem__) if known else None
        directory.finish(
            {
                "status": status, "parameters": 376_834, "epochs": len(accuracies), "seconds": 2.0 * len(accuracies),
                "kept_epoch": None if best is None else best + 1, "val_accuracy": None if best is None else known[best],
                "val_loss": None if best is None else 1.0, "images_per_s": 1000.0, "stall": 0.01,
            }
        )  # fmt: skip
    if right is not None:
        write_predictions(directory, right, right if augmented is None else augmented)
    return directory


def write_predictions(directory, right, augmented, first=0):
    labels = np.arange(len(right)) % len(CLASSES)

    def said(hits):
        return torch.from_numpy(np.where(hits, labels, (labels + 1) % len(CLASSES)))

    tensors = {
        "ids": torch.arange(first, first + len(right)), "labels": torch.from_numpy(labels), "clean": said(right),
        "augmented": said(augmented),
    }  # fmt: skip
    directory.save_tensors(NAME, tensors, {"epoch": 1})


def rising(best, epochs=5, start=0.2):
    """Return ``epochs`` accuracies that rise to ``best``."""
    return [float(a) for a in np.linspace(start, best, epochs)]
