"""A small pretrained network, and a device with too little memory."""

import torch

from fastcifar.pipeline import Batch
from support.runs import labels, pixels, spec_of

MODEL = "mobilenet_v3_small"  # has dropout, BatchNorm, and few parameters


def spec(dataset, **fields):
    pretrained = {"experiment": 4, "model": MODEL, "dropout": 0.0, "lr": 1e-3, "epochs": 2, "weights": "0" * 16}
    return spec_of(dataset, **pretrained | fields)


def batch_of(dataset, count=16, first=0):
    ids = torch.arange(first, first + count)
    return Batch(pixels(dataset, ids.numpy()), labels(dataset, ids.numpy()), ids)


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def short_of_memory(model, most, monkeypatch):
    """Make a model fail for batches of more than ``most`` images, as on a full device. Returns its batch sizes."""
    forward, sizes = model.forward, []

    def limited(images, noise=None):
        sizes.append(len(images))
        logits = forward(images, noise)  # a device is full in the midst of it
        if len(images) > most:
            raise torch.OutOfMemoryError("no memory for that\nand a long table")
        return logits

    monkeypatch.setattr(model, "forward", limited)
    return sizes
