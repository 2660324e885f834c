"""Small runs, and the files of a run without timings."""

import json

import numpy as np
import torch

from fastcifar.runs.directory import TIMING, RunDirectory
from fastcifar.runs.spec import RunSpec
from fastcifar.system.seals import tensors_seal
from fastcifar.training import loop

CPU = torch.device("cpu")


def spec_of(dataset, **fields):
    """Return the spec of a small run of the CNN."""
    small = {
        "experiment": 2, "protocol": "sound", "model": "cnn", "batch_size": 16, "lr": 1e-2, "l2": 0.0, "dropout": 0.5,
        "recipe": "none", "seed": 0, "dataset": dataset.sha256, "epochs": 4, "precision": "float32",
    }  # fmt: skip
    return RunSpec(**small | fields)


def run(spec, dataset, out, **more):
    """Train a run; return its summary, its metrics without timings, and a hash of its kept weights."""
    return loop.train(spec, dataset, out, CPU, **more), *left_by(spec, out)


def left_by(spec, out):
    directory = RunDirectory.of(spec, out)
    return untimed(directory.metrics()), weights_hash(directory)


def weights_hash(directory):
    """Return a hash of the kept weights, their epoch and their network; None without weights."""
    saved = directory.load_tensors("model", CPU)
    return saved and tensors_seal(saved[0], json.dumps({key: saved[1][key] for key in ("epoch", "model")}))


def untimed(lines):
    return [{key: value for key, value in line.items() if key not in TIMING} for line in lines]


def pixels(dataset, ids):
    return torch.from_numpy(dataset.images("train")[ids]).permute(0, 3, 1, 2).float() / 255


def labels(dataset, ids):
    return torch.from_numpy(dataset.labels("train")[ids].astype(np.int64))
