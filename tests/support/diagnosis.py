"""A small BatchNorm experiment, and its evaluations by arm."""

import torch

from fastcifar.diagnose.batchnorm import BatchNormExperiment, arms_of
from fastcifar.models.published import NONE, Weights
from fastcifar.runs.plan import headline_runs

CPU = torch.device("cpu")
EPOCHS, LAST = 2, 3
FAST, SLOW, EVAL = (arm.name for arm in arms_of([0.5, 0.01]))


def experiment(dataset, arms=(0.5, 0.01), last=LAST, **overrides):
    overrides = {"recipe": "none", "batch_size": 8, "lr": 1e-3, "epochs": EPOCHS} | overrides
    (spec,) = headline_runs(4, dataset, model="resnet18", seeds=[1], **overrides)
    return BatchNormExperiment(spec, dataset, Weights(NONE, {}), CPU, arms_of(arms), last)


def of(evaluations, arm):
    return [evaluation for evaluation in evaluations if evaluation.arm == arm]
