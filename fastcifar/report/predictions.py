"""The predictions of a run's kept weights for its validation images, clean and augmented. They are computed once and
saved in the run's directory.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastcifar.augment import Augment
from fastcifar.data.dataset import Dataset
from fastcifar.data.manifest import BYTE_CLASSES
from fastcifar.errors import FastcifarError
from fastcifar.experiments import PROTOCOLS
from fastcifar.pipeline import open_pipeline
from fastcifar.pipeline.arguments import dtype_of
from fastcifar.predict.ensemble import LARGEST_BATCH, probabilities
from fastcifar.predict.scores import confusion_of
from fastcifar.predict.views import VIEWS
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.trained import TrainedRun
from fastcifar.show.progress import track
from fastcifar.system import machine
from fastcifar.system.devices import threads

NAME = "predictions"
CLASSES = ("labels", "clean", "augmented")
"""The fields of Predictions that hold class numbers. They are saved as uint8, or as int32 for more than 256 classes."""


@dataclass(frozen=True)
class Predictions:
    """The predicted classes of N validation images, in the order of their ids. Each array is (N,) int64."""

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    clean: NDArray[np.int64]
    augmented: NDArray[np.int64]
    """Predictions for the images under the run's own training transform, with the random draws of the kept epoch."""
    epoch: int
    """The epoch whose weights were kept."""
    line: str | None
    """The seal of that epoch's line in metrics.jsonl; None for a run without seals."""

    @classmethod
    def read(cls, directory: RunDirectory) -> "Predictions | None":
        """Return the predictions that are saved with a run, or None. Raises FastcifarError for a damaged file."""
        try:
            saved = directory.load_tensors(NAME, torch.device("cpu"))
            if saved is None:
                return None
            tensors, note = saved
            directory.check_epoch(NAME, note)
            values = {name: tensors[name].numpy().astype(np.int64) for name in CLASSES}
            ids = np.flatnonzero(np.unpackbits(tensors["members"].numpy())) if "members" in tensors else tensors["ids"]
            if {value.shape for value in values.values()} != {ids.shape}:
                raise ValueError("its arrays are of different lengths")
            return cls(np.asarray(ids, np.int64), **values, epoch=int(note["epoch"]), line=note.get("line"))
        except (FastcifarError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise FastcifarError(
                f"{directory.path / NAME}.safetensors is damaged; delete it, and fastcifar report --data makes it anew"
            ) from error

    def save(self, directory: RunDirectory) -> None:
        """Save the predictions with a run: a number for each class, and a bit for each possible id."""
        members = np.zeros(int(self.ids.max()) + 1, np.uint8)
        members[self.ids] = 1
        few = self.within(BYTE_CLASSES)
        values = {name: getattr(self, name).astype(np.uint8 if few else np.int32) for name in CLASSES}
        arrays = {"members": np.packbits(members), **values}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        directory.save_tensors(NAME, tensors, {"epoch": self.epoch, "line": self.line})

    def right(self, augmented: bool = False) -> NDArray[np.bool_]:
        """Return (N,) bool: whether the predicted class of each image is its label."""
        return (self.augmented if augmented else self.clean) == self.labels

    def within(self, classes: int) -> bool:
        """Return whether all labels and predictions are numbers of ``classes`` classes."""
        return all(getattr(self, name).max(initial=0) < classes for name in CLASSES)

    def confusion(self, classes: int) -> NDArray[np.int64]:
        """Return the number of clean images by (true, predicted) class."""
        return confusion_of(self.labels, self.clean, classes)


def predict(paths: Sequence[Path], dataset: Dataset, device: torch.device) -> list[str]:
    """Compute and save the predictions of the runs that have none.

    paths: run directories. Returns a sentence for each run without predictions, such as a run of another dataset.
    """
    wanted = [path for path in paths if not (path / f"{NAME}.safetensors").exists()]
    at_once = machine.usable_cores() if device.type == "cpu" else 1  # small networks: one run a core is fastest
    with threads(1) if at_once > 1 else nullcontext(), ThreadPoolExecutor(at_once) as pool:
        notes = pool.map(lambda path: _try_predict(path, dataset, device), wanted)
        return [note for note in track(notes, "predictions", len(wanted)) if note]


def _try_predict(path: Path, dataset: Dataset, device: torch.device) -> str | None:
    """Predict with one run; return the reason where that is impossible."""
    try:
        run = TrainedRun.open(path)
        if run.dataset["sha256"] != dataset.sha256:
            return f"{path.name}: no predictions, because it was trained on another dataset than {dataset.path}"
        if not dataset.verified:  # the predictions would stay with the run
            return f"{path.name}: no predictions, because {dataset.path} was opened without being verified"
        _predict(run, dataset, device)
    except FastcifarError as error:
        return f"no predictions: {error}"
    return None


def _predict(run: TrainedRun, dataset: Dataset, device: torch.device) -> None:
    recipe = PROTOCOLS[run.spec.protocol].recipe(run.spec.recipe)
    ids = dataset.ids("validation", run.split_seed)
    labels = dataset.labels("train")
    assert labels is not None  # the run was trained on these labels
    clean = _classes(run, dataset, device, recipe.still())
    augmented = clean.copy() if recipe == recipe.still() else _classes(run, dataset, device, recipe)
    Predictions(ids, labels[ids].astype(np.int64), clean, augmented, run.epoch, run.line).save(run.directory)


def _classes(run: TrainedRun, dataset: Dataset, device: torch.device, augment: Augment) -> NDArray[np.int64]:
    dtype = dtype_of(run.spec.precision)
    request: dict[str, Any] = {
        "split": "validation", "augment": augment, "batch_size": min(run.spec.batch_size, LARGEST_BATCH),
        "seed": run.spec.seed, "device": device, "dtype": dtype, "split_seed": run.split_seed,
    }  # fmt: skip
    with open_pipeline("resident", dataset, **request) as pipeline:
        batches = pipeline.epoch(run.epoch)
        predicted = [values.argmax(1) for values in probabilities(run, batches, device, dtype, VIEWS["none"])]
    return np.concatenate(predicted).astype(np.int64)
