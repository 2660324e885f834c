"""Run directories with chosen results, in the format of training, for tests of reports and tables."""

from pathlib import Path

import numpy as np
import torch

from fastcifar.experiments import experiment
from fastcifar.report.evidence import MEAN, STD
from fastcifar.report.predictions import FILES
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.outcome import summary_of
from fastcifar.runs.spec import RunSpec
from support.lines import line_of
from support.seals import note_of

CLASSES = tuple("0123456789")
CONTEXT = {
    "dataset": {
        "name": "digits", "sha256": "ab" * 32, "classes": list(CLASSES), "verified": True,
        "images_of_classes": [5000] * 10, "mean": list(MEAN), "std": list(STD),
    },
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
        line_of(n, accuracy=a, train_loss=t, val_loss=v, seconds=2.0, images_per_s=1000.0, stall=0.01)
        for n, (a, t, v) in enumerate(zip(accuracies, train or falling, val or falling, strict=True), 1)
    ]


def write_run(out: Path, spec, accuracies, *, train=None, val=None, ended=True, right=None, augmented=None, test=None):
    """Write a run directory. accuracies: of each epoch; None for the one in which the run diverges. right, augmented:
    (N,) bool, whether each validation image is predicted correctly, clean and augmented. test: the same of each test
    image.
    """
    directory, lines = RunDirectory.of(spec, out), lines_of(accuracies, train, val)
    with directory.locked():
        directory.start(spec, CONTEXT)
        for line in lines:
            directory.append_metrics(line)
        if ended:
            directory.finish(summary_of(spec, lines, 376_834))
    if right is not None:
        write_predictions(directory, right, right if augmented is None else augmented)
    if test is not None:
        write_predictions(directory, test, test, split="test")
    return directory


def write_predictions(directory, right, augmented, first=0, split="validation"):
    labels = np.arange(len(right)) % len(CLASSES)

    def said(hits):
        return torch.from_numpy(np.where(hits, labels, (labels + 1) % len(CLASSES)))

    tensors = {
        "ids": torch.arange(first, first + len(right)), "labels": torch.from_numpy(labels), "clean": said(right),
        "augmented": said(augmented),
    }  # fmt: skip
    directory.save_tensors(FILES[split], tensors, note_of(directory.path, directory.summary()["kept_epoch"]))


def rising(best, epochs=5, start=0.2):
    """Return ``epochs`` accuracies that rise to ``best``."""
    return [float(a) for a in np.linspace(start, best, epochs)]
