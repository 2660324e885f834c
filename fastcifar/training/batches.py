"""The pipelines of a run's training batches and validation batches."""

from typing import Any

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.experiments import PROTOCOLS
from fastcifar.models.names import MODELS
from fastcifar.pipeline import Pipeline, open_pipeline
from fastcifar.pipeline.arguments import dtype_of
from fastcifar.runs.spec import RunSpec

EVALUATION_BATCH = 512  # images; for protocols whose validation loss does not depend on the batch size


def open_pipelines(
    spec: RunSpec, dataset: Dataset, device: torch.device, shard: tuple[int, int] = (0, 1)
) -> tuple[Pipeline, Pipeline]:
    """Open the pipelines of a run's training batches and validation batches, as its protocol defines them.

    shard: the rank of this process, and the number of processes that share the training batches.
    """
    training, validation = requests(spec, device, shard)
    return (
        open_pipeline(spec.pipeline, dataset, **training),
        open_pipeline(spec.pipeline, dataset, **validation),
    )


def requests(
    spec: RunSpec, device: torch.device, shard: tuple[int, int] = (0, 1)
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of `open_pipeline` for training and for validation."""
    protocol = PROTOCOLS[spec.protocol]
    augment = protocol.recipe(spec.recipe)
    shared = {
        "seed": spec.seed,
        "device": device,
        "dtype": dtype_of(spec.precision),
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
        # Large networks on large images use the batch size of training, so validation needs no more memory.
        "batch_size": EVALUATION_BATCH if spec.model in MODELS and not protocol.batch_mean_loss else spec.batch_size,
    }
    return training, validation
