"""The prediction of an ensemble of runs on a dataset's images: the mean of the runs' probabilities."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastcifar.data.dataset import Dataset, split_name
from fastcifar.data.sources.source import I64, U8
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.pipeline import Batch, open_pipeline
from fastcifar.pipeline.arguments import dtype_of
from fastcifar.predict.views import VIEWS, check_tta
from fastcifar.runs.trained import TrainedRun
from fastcifar.show.progress import track
from fastcifar.system import machine

SLAB = 8192  # images in memory at a time: 24 MiB
LARGEST_BATCH = 512  # images; applies unless --batch-size is given


class Slab(Dataset):
    """Some rows of a dataset, copied into memory. As a dataset, each of its splits has these rows, counted from 0."""

    def __init__(self, dataset: Dataset, split: str, rows: I64) -> None:
        super().__init__(dataset.path, dataset.manifest)
        self._images = np.array(dataset.images(dataset.part(split))[rows])

    def images(self, part: str) -> U8:
        """Return the images, (len(rows), 32, 32, 3) uint8, in the order of the rows."""
        return self._images

    def labels(self, part: str) -> None:
        """Return None, because a prediction must not see labels."""

    def ids(self, split: str, split_seed: int | None = None) -> I64:
        """Return 0, 1, 2, ... for the rows, (len(rows),) int64."""
        return np.arange(len(self._images))


def rows_of(runs: Sequence[TrainedRun], dataset: Dataset, split: str) -> I64:
    """Return the rows of a split, (N,) int64, ascending. training and validation are split as in the runs.

    Raises UsageError for an unknown split, a split without images, and a split that differs between the runs.
    """
    split = split_name(split)
    if dataset.part(split) not in dataset.manifest["counts"]:
        other = "val" if split == "test" else "test"
        raise UsageError(f"{dataset.path} has no {split} images, as {dataset.name} had none; try --split {other}")
    seed = None
    if split in ("training", "validation"):
        seed = runs[0].split_seed
        for run in runs:
            if run.split_seed != seed:
                raise UsageError(
                    f"{runs[0]} has the {split} images of {_split(seed)}, but {run} has those of "
                    f"{_split(run.split_seed)}: one was trained on validation images of the other; choose runs of one "
                    f"split for --split {split}"
                )
    return dataset.ids(split, seed)


CPU = torch.device("cpu")


@dataclass(frozen=True)
class PredictOptions:
    """The options of a prediction. Raises UsageError for an unknown tta."""

    device: torch.device = CPU
    precision: str | None = None
    """One of `spec.PRECISIONS`. By default, each run's own precision."""
    tta: str = "none"
    """Test-time augmentation: a key of VIEWS."""
    batch_size: int | None = None
    """Images at a time. By default, each run's batch size, but at most LARGEST_BATCH."""

    def __post_init__(self) -> None:
        check_tta(self.tta)


def ensemble(
    runs: Sequence[TrainedRun], dataset: Dataset, split: str, options: PredictOptions = PredictOptions()
) -> NDArray[np.float32]:
    """Return the probabilities of the images of `rows_of`, (N, classes) float32: the mean over runs and views of the
    softmax of the logits.

    The runs predict one after another. Besides the result, memory holds one network and SLAB images. Raises UsageError
    as `rows_of` does, FastcifarError for a run whose probabilities are not finite.
    """
    device, precision = options.device, options.precision
    rows = rows_of(runs, dataset, split)
    total = np.zeros((len(rows), len(dataset.classes)), np.float32)
    if device.type == "cpu":
        machine.keep_freed_memory()
    for number, run in enumerate(runs, 1):
        dtype = dtype_of(precision or run.spec.precision)
        batches = _batches(
            dataset,
            split,
            rows,
            augment=PROTOCOLS[run.spec.protocol].recipe(run.spec.recipe).still(),
            batch_size=options.batch_size or min(run.spec.batch_size, LARGEST_BATCH),
            device=device,
            dtype=dtype,
        )
        predicted, done = probabilities(run, batches, device, dtype, VIEWS[options.tta]), 0
        for values in track(predicted, f"run {number} of {len(runs)}", len(rows), len):
            total[done : done + len(values)] += values / len(runs)
            done += len(values)
        if not np.isfinite(total).all():
            raise FastcifarError(
                f"{run} gives probabilities that are not finite, in {precision or run.spec.precision}; try --amp off"
            )
    return total


def probabilities(
    run: TrainedRun,
    batches: Iterator[Batch],
    device: torch.device,
    dtype: torch.dtype,
    views: Sequence[Callable[[Tensor], Tensor]],
) -> Iterator[NDArray[np.float32]]:
    """Yield the probabilities of each batch, (B, classes) float32: the mean over the views.

    Raises FastcifarError where a batch does not fit into the device's memory.
    """
    network = run.network(device)
    for images, _, _ in batches:
        try:
            with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                logits = torch.stack([network(view(images)) for view in views])
                mean = logits.float().softmax(2).mean(0).cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise FastcifarError(
                f"{run}: {len(images)} images at once do not fit on {device}; choose a smaller --batch-size"
            ) from error
        yield mean


def _batches(dataset: Dataset, split: str, rows: I64, **request: Any) -> Iterator[Batch]:
    """Yield the images of the rows in batches, in order, one slab at a time.

    labels are -1. ids count from 0 in each slab.
    """
    for start in range(0, len(rows), SLAB):
        slab = Slab(dataset, split, rows[start : start + SLAB])
        with open_pipeline("resident", slab, split=split, shuffle=False, **request) as pipeline:
            yield from pipeline.epoch(0)


def _split(seed: int | None) -> str:
    return "the dataset's own split" if seed is None else f"the split of seed {seed}"
