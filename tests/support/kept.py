"""Run directories like those that training writes."""

from dataclasses import replace
from math import log

import torch

from fastcifar.models.build import build
from fastcifar.runs.directory import RunDirectory
from support.specs import SPEC


def kept(dataset, out, tensors=None, *, classes=True, summary=None, **fields):
    """Write a run directory like training. tensors: the kept weights; default: the initial weights."""
    spec = replace(SPEC, **{"dataset": dataset.sha256, "precision": "float32"} | fields)
    directory = RunDirectory.of(spec, out)
    source = {"name": dataset.name, "sha256": dataset.sha256}
    if classes:
        source["classes"] = list(dataset.classes)
    with directory.locked():
        directory.start(spec, {"dataset": source})
        if tensors is None:
            tensors = build(spec.model, len(dataset.classes), spec.dropout, spec.seed).state_dict()
        directory.save_tensors("model", tensors, {"epoch": 3, "model": spec.model})
        if summary != {}:
            directory.finish(summary or {"status": "finished"})
    return directory.path


def saying(probabilities):
    """Return weights of the CNN that predict these probabilities for every image."""
    tensors = build("cnn", len(probabilities), 0.0, 0).state_dict()
    return {name: torch.zeros_like(value) for name, value in tensors.items()} | {
        "head.bias": torch.tensor([log(p) for p in probabilities])
    }
