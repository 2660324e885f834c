"""A small BatchNorm experiment, its evaluations by arm, and findings with given numbers."""

from dataclasses import replace

import torch

from fastcifar.diagnose.arms import Arm, arms_of
from fastcifar.diagnose.experiment import Experiment
from fastcifar.diagnose.findings import ArmFinding
from fastcifar.models.published import NONE, Weights
from fastcifar.runs.plan import headline_runs
from support.normed import NORMED

CPU = torch.device("cpu")
EPOCHS, PER_EPOCH, SEEDS = 3, 2, 3
ARMS = arms_of([0.5, 0.01])
FAST, SLOW, EVAL = (arm.name for arm in ARMS)


def experiment(dataset, per_epoch=PER_EPOCH, **overrides):
    overrides = {"recipe": "none", "batch_size": 8, "lr": 1e-2, "epochs": EPOCHS, "tune": "head"} | overrides
    (spec,) = headline_runs(4, dataset, seeds=[1], **{"model": NORMED} | overrides)
    return Experiment(spec, dataset, Weights(NONE, {}), CPU, per_epoch)


def of(evaluations, arm):
    return [evaluation for evaluation in evaluations if evaluation.arm == arm]


FINDING = ArmFinding(
    "training mode, momentum 0.1", loss=1.0, accuracy=0.5, restored_loss=1.0, jump=0.3, restored_jump=0.02,
    final_range=0.5, moved=0.1, moved_most=0.2, evaluations=40,
)  # fmt: skip
STEADY = replace(FINDING, arm=Arm().name, jump=0.02, final_range=0.0, moved=0.0, moved_most=0.0)
