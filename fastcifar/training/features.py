"""The features that a frozen backbone gives for a dataset's images: computed once, then kept in the dataset's folder
``cache``.
"""

import hashlib
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fastcifar.data.dataset import Dataset
from fastcifar.data.manifest import CACHE
from fastcifar.experiments import PROTOCOLS
from fastcifar.models.pretrained import Pretrained
from fastcifar.pipeline import open_pipeline
from fastcifar.pipeline.arguments import dtype_of
from fastcifar.show.progress import track
from fastcifar.system.atomic import writing
from fastcifar.training.learner import Learner


class Features(NamedTuple):
    """The features of a dataset's labelled images, by row, in host memory."""

    values: Tensor
    """The inputs of the last layer, (N, F) float32."""
    labels: Tensor
    """The labels, (N,) int64."""
    seconds: float
    """The seconds that computing the features took; 0 where they came from the cache."""


def features_of(learner: Learner, dataset: Dataset) -> Features:
    """Return the features that a learner's backbone gives under its run's recipe, which must draw no random numbers.

    The cache file is named by a hash of everything that the features depend on. Raises FastcifarError where it cannot
    be written.
    """
    path = dataset.path / CACHE.replace("*", _address(learner, dataset))
    with suppress(SafetensorError, OSError, KeyError):  # a file that is damaged is made again
        kept = load(path.read_bytes())  # not memory-mapped, so that later writes to the file cannot change the tensors
        return Features(kept["values"], kept["labels"], 0.0)
    started = time.perf_counter()
    values, labels = _computed(learner, dataset)
    _keep(path, {"values": values, "labels": labels})
    return Features(values, labels, time.perf_counter() - started)


def _computed(learner: Learner, dataset: Dataset) -> tuple[Tensor, Tensor]:
    spec, model = learner.spec, learner.model
    assert isinstance(model, Pretrained)
    augment = PROTOCOLS[spec.protocol].recipe(spec.recipe)
    values, labels = [], []
    model.eval()
    with (
        open_pipeline(
            spec.pipeline, dataset, split="labelled", augment=augment, batch_size=spec.batch_size,
            device=learner.device, dtype=dtype_of(spec.precision),
        ) as pipeline,
        torch.inference_mode(),
    ):  # fmt: skip
        for batch in track(pipeline.epoch(0), f"features of {spec.model}", len(pipeline)):
            with learner.autocast():
                values.append(model.features(batch.images).float().cpu())
            labels.append(batch.labels.cpu())
    return torch.cat(values), torch.cat(labels)


def _address(learner: Learner, dataset: Dataset) -> str:
    """Return 16 hex digits of the SHA-256 of everything that the features depend on."""
    spec, model = learner.spec, learner.model
    assert isinstance(model, Pretrained)
    facts = (dataset.sha256, spec.model, PROTOCOLS[spec.protocol].recipe(spec.recipe), spec.precision, spec.pipeline)
    where = "cuda, exact" if learner.device.type == "cuda" else learner.device.type  # older files held TF32 results
    digest = hashlib.sha256(repr((*facts, where, torch.__version__)).encode())
    for name, tensor in sorted(model.backbone.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _keep(path: Path, tensors: dict[str, Tensor]) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    with writing(path):
        path.parent.mkdir(exist_ok=True)
        try:
            temporary.write_bytes(save(tensors))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
