"""Run directories like those that training writes."""

from dataclasses import replace
from math import log

import torch

from fastcifar.models.build import build
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.outcome import summary_of
from support.lines import line_of
from support.specs import SPEC

EPOCHS = 3


def kept(of, out, tensors=None, *, classes=True, status="finished", name=None, **fields):
    """Write a run directory like training, whose kept weights are those of epoch 3.

    of: the dataset. tensors: the kept weights; default: the initial weights. classes: whether run.json has the
    dataset's classes. status: finished, diverged (in the epoch after) or unfinished. name: another name of the dataset.
    fields: the fields of the spec that differ.
    """
    spec = replace(SPEC, **{"dataset": of.sha256, "precision": "float32"} | fields)
    directory = RunDirectory.of(spec, out)
    source = {"name": name or of.name, "sha256": spec.dataset}
    if classes:
        source["classes"] = list(of.classes)
    if tensors is None:
        tensors = build(spec.model, len(of.classes), spec.dropout, spec.seed).state_dict()
    lines = [line_of(n, 3.0 - n / 2, n / 4) for n in range(1, EPOCHS + 1)]
    with directory.locked():
        directory.start(spec, {"dataset": source})
        seal = [directory.append_metrics(line) for line in lines][-1]
        directory.save_tensors("model", tensors, {"epoch": EPOCHS, "line": seal, "model": spec.model})
        if status == "diverged":
            lines.append(line_of(EPOCHS + 1, None, None))
            directory.append_metrics(lines[-1])
        if status != "unfinished":
            directory.finish(summary_of(spec, lines, 376_834))
    return directory.path


def saying(probabilities):
    """Return weights of the CNN that predict these probabilities for every image."""
    tensors = build("cnn", len(probabilities), 0.0, 0).state_dict()
    return {name: torch.zeros_like(value) for name, value in tensors.items()} | {
        "head.bias": torch.tensor([log(p) for p in probabilities])
    }
