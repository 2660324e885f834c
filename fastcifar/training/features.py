"""The features that a frozen backbone gives for a dataset's images: computed once, then kept in the dataset's folder
``cache``, where that can be written. A kept file is believed only as far as its seal goes.
"""

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fastcifar.augment import IMAGE_SIZE
from fastcifar.data.dataset import Dataset
from fastcifar.data.manifest import CACHE
from fastcifar.data.memory import Nowhere
from fastcifar.errors import FastcifarError
from fastcifar.experiments import PROTOCOLS
from fastcifar.models.names import NO_CODE
from fastcifar.models.pretrained import Pretrained
from fastcifar.pipeline import open_pipeline
from fastcifar.pipeline.arguments import dtype_of
from fastcifar.show.progress import track
from fastcifar.system.atomic import whole
from fastcifar.system.caches import refusal
from fastcifar.system.seals import SEAL, tensors_seal
from fastcifar.training.learner import Learner
from fastcifar.training.memory import refuse_misfit
from fastcifar.training.options import silent

ANEW = "each session computes them anew"


class Features(NamedTuple):
    """The features of a dataset's labelled images, by row, in host memory."""

    values: Tensor
    """The inputs of the last layer, (N, F) float32."""
    labels: Tensor
    """The labels, (N,) int64."""
    seconds: float
    """The seconds that computing the features took; 0 where they came from the cache."""


def features_of(learner: Learner, dataset: Dataset, say: Callable[[str], None] = silent) -> Features:
    """Return the features that a learner's backbone gives under its run's recipe, which must draw no random numbers.

    The cache file is named by a hash of everything that the features depend on. A damaged file is replaced. say: called
    with a message about a damaged file, and about features that cannot be kept, before they are computed.
    """
    path = None
    if not isinstance(dataset.path, Nowhere):
        path = dataset.path / CACHE.replace("*", _address(learner, dataset))
        kept = _read(path, _shape(learner, dataset), say)
        if kept is not None:
            return Features(*kept, 0.0)
        if reason := _obstacle(path, learner, dataset):
            say(f"features of {learner.spec.model} will not be kept in {path.parent} ({reason}), so {ANEW}")
            path = None
    started = time.perf_counter()
    values, labels = _computed(learner, dataset)
    seconds = time.perf_counter() - started
    if path is not None:
        _keep(path, {"values": values, "labels": labels}, say)
    return Features(values, labels, seconds)


def _shape(learner: Learner, dataset: Dataset) -> tuple[int, int]:
    """Return the shape of the values: the number of labelled images and that of the last layer's inputs."""
    assert isinstance(learner.model, Pretrained)
    return len(dataset.ids("labelled")), learner.model.head.in_features


def _read(path: Path, shape: tuple[int, int], say: Callable[[str], None]) -> tuple[Tensor, Tensor] | None:
    """Return the values and labels of a cache file; None where there is no file, or where it is damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt", device="cpu") as opened:
            seal = (opened.metadata() or {}).get(SEAL)
            # copies, since a later write to a file that is mapped into memory would change the tensors
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
        found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
        if found != {"values": (torch.float32, shape), "labels": (torch.int64, shape[:1])}:
            raise ValueError("its tensors are not the features of this dataset's images")
        if seal != tensors_seal(tensors, path.name):
            raise ValueError("its seal is not that of its content" if seal else "it has no seal")
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        say(f"{path} is not used ({str(error) or type(error).__name__}); the features are computed again")
        return None
    return tensors["values"], tensors["labels"]


def _obstacle(path: Path, learner: Learner, dataset: Dataset) -> str:
    """Return why a cache file cannot be written; empty where nothing is known to be in the way."""
    if reason := refusal(path.parent):
        return reason
    images, width = _shape(learner, dataset)
    size, free = images * (4 * width + 8), shutil.disk_usage(dataset.path).free
    return f"they take {size:,} bytes, and {free:,} are free" if size > free else ""


def _computed(learner: Learner, dataset: Dataset) -> tuple[Tensor, Tensor]:
    spec, model = learner.spec, learner.model
    assert isinstance(model, Pretrained)
    augment = PROTOCOLS[spec.protocol].recipe(spec.recipe)
    # filled in place, as a list of parts and their concatenation would take the memory twice
    images, width = _shape(learner, dataset)
    values, labels = torch.empty((images, width)), torch.empty(images, dtype=torch.int64)
    first = 0
    model.eval()
    with (
        open_pipeline(
            spec.pipeline, dataset, split="labelled", augment=augment,
            batch_size=min(spec.batch_size, learner.at_once(augment.out_size)),
            device=learner.device, dtype=dtype_of(spec.precision),
        ) as pipeline,
        torch.inference_mode(),
    ):  # fmt: skip
        for batch in track(pipeline.epoch(0), f"features of {spec.model}", len(pipeline)):
            rows = slice(first, first := first + len(batch.labels))
            with learner.autocast():
                try:
                    values[rows] = model.features(batch.images)
                except (RuntimeError, AssertionError) as error:
                    refuse_misfit(spec, error)
                    raise
            labels[rows] = batch.labels
    return values, labels


def _address(learner: Learner, dataset: Dataset) -> str:
    """Return 16 hex digits of the SHA-256 of everything that the features depend on."""
    spec, model = learner.spec, learner.model
    assert isinstance(model, Pretrained)
    augment = PROTOCOLS[spec.protocol].recipe(spec.recipe)
    facts = (dataset.sha256, spec.model, augment, spec.precision, spec.pipeline)
    own = () if spec.code == NO_CODE else (spec.code,)  # files of published networks keep their names
    if model.enlarge and augment.out_size != IMAGE_SIZE:
        own = (*own, "enlarged once")  # older files held features of images that were enlarged twice
    where = "cuda, exact" if learner.device.type == "cuda" else learner.device.type  # older files held TF32 results
    digest = hashlib.sha256(repr((*facts, *own, where, torch.__version__)).encode())
    for name, tensor in sorted(model.backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _keep(path: Path, tensors: dict[str, Tensor], say: Callable[[str], None]) -> None:
    """Write a cache file with a seal over the tensors and its name. Where that fails, say so."""
    try:
        with whole(path) as file:
            file.write_bytes(save(tensors, {SEAL: tensors_seal(tensors, path.name)}))
    except FastcifarError as error:
        say(f"the features are not kept, so {ANEW}: {error}")
