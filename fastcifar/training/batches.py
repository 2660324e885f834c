"""The batches of a run: training and validation, as its protocol has them."""

from typing import Any

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.experiments import PROTOCOLS
from fastcifar.models import MODELS
from fastcifar.pipeline import Pipeline, open_pipeline
from fastcifar.runs.spec import PRECISIONS, RunSpec

EVALUATION_BATCH = 512  # of protocols whose loss does not depend on it


def open_pipelines(
    spec: RunSpec, dataset: Dataset, device: torch.device, shard: tuple[int, int] = (0, 1)
) -> tuple[Pipeline, Pipeline]:
    """The pipelines of a run's training batches and of its validation batches, as its protocol has them.

    shard: rank and number of the processes that share the training batches.
    """
    training, validation = requests(spec, device, shard)
    return (
        open_pipeline(spec.pipeline, dataset, **training),
        open_pipeline(spec.pipeline, dataset, **validation),
    )


def requests(
    spec: RunSpec, device: torch.device, shard: tuple[int, int] = (0, 1)
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of `open_pipeline` for training and for validation."""
    protocol = PROTOCOLS[spec.protocol]
    augment = protocol.recipe(spec.recipe)
    shared = {
        "seed": spec.seed,
        "device": device,
        "dtype": PRECISIONS[spec.precision],
        "split_seed": spec.seed if protocol.split_by_seed else None,
    }
    training = {
        **shared,
        "split": "training",
        "augment": augment,
        "batch_size": spec.batch_size,
        "shard": shard,
    }
    validation = {
        **shared,
        "split": "validation",
        "augment": augment if protocol.augment_validation else augment.still(),
        # a large network on large images takes no more than in training
        "batch_size": EVALUATION_BATCH if spec.model in MODELS and not protocol.batch_mean_loss else spec.batch_size,
    }
    return training, validation
