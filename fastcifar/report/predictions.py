"""The predictions of a run's kept weights for its validation images, clean and augmented, and for the dataset's test
images. They are computed once and saved in the run's directory.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
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

FILES = MappingProxyType({"validation": "predictions", "test": "test-predictions"})
"""The names of the files, without suffix, by the split whose images are predicted."""
CLASSES = ("labels", "clean", "augmented")
"""The fields of Predictions that hold class numbers. They are saved as uint8, or as int32 for more than 256 classes."""


@dataclass(frozen=True)
class Predictions:
    """The predicted classes of N images of a split, in the order of their ids. Each array is (N,) int64."""

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    clean: NDArray[np.int64]
    augmented: NDArray[np.int64]
    """Predictions for the images under the run's own training transform, with the random draws of the kept epoch. Test
    images are never augmented: for them, the same as clean."""
    epoch: int
    """The epoch whose weights were kept."""
    line: str | None
    """The seal of that epoch's line in metrics.jsonl; None for a run without seals."""

    @classmethod
    def read(cls, directory: RunDirectory, split: str = "validation") -> "Predictions | None":
        """Return the predictions that are saved with a run, or None. split: a key of FILES.

        Raises FastcifarError for a damaged file.
        """
        name = FILES[split]
        try:
            saved = directory.load_tensors(name, torch.device("cpu"))
            if saved is None:
                return None
            tensors, note = saved
            directory.check_epoch(name, note)
            values = {key: tensors[key].numpy().astype(np.int64) for key in CLASSES}
            ids = np.flatnonzero(np.unpackbits(tensors["members"].numpy())) if "members" in tensors else tensors["ids"]
            if {value.shape for value in values.values()} != {ids.shape}:
                raise ValueError("its arrays are of different lengths")
            return cls(np.asarray(ids, np.int64), **values, epoch=int(note["epoch"]), line=note.get("line"))
        except (FastcifarError, OSError, KeyError, TypeError, ValueError, OverflowError) as error:
            option = " --test" if split == "test" else ""
            raise FastcifarError(
                f"{directory.path / name}.safetensors is damaged; delete it, and fastcifar report --data{option} makes "
                "it anew"
            ) from error

    def save(self, directory: RunDirectory, split: str = "validation") -> None:
        """Save the predictions with a run: a number for each class, and a bit for each possible id."""
        members = np.zeros(int(self.ids.max()) + 1, np.uint8)
        members[self.ids] = 1
        few = self.within(BYTE_CLASSES)
        values = {name: getattr(self, name).astype(np.uint8 if few else np.int32) for name in CLASSES}
        arrays = {"members": np.packbits(members), **values}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        directory.save_tensors(FILES[split], tensors, {"epoch": self.epoch, "line": self.line})

    def right(self, augmented: bool = False) -> NDArray[np.bool_]:
        """Return (N,) bool: whether the predicted class of each image is its label."""
        return (self.augmented if augmented else self.clean) == self.labels

    def within(self, classes: int) -> bool:
        """Return whether all labels and predictions are numbers of ``classes`` classes."""
        return all(getattr(self, name).max(initial=0) < classes for name in CLASSES)

    def confusion(self, classes: int) -> NDArray[np.int64]:
        """Return the number of clean images by (true, predicted) class."""
        return confusion_of(self.labels, self.clean, classes)


def predict(
    paths: Sequence[Path], dataset: Dataset, device: torch.device, splits: Sequence[str] = ("validation",)
) -> list[str]:
    """Compute and save the predictions of the runs that have none.

    paths: run directories. splits: keys of FILES; the images of all of them have labels. Returns a sentence for each
    run that lacks predictions, such as a run of another dataset.
    """
    wanted = [path for path in paths if _lacking(path, splits)]
    at_once = machine.usable_cores() if device.type == "cpu" else 1  # small networks: one run a core is fastest
    with threads(1) if at_once > 1 else nullcontext(), ThreadPoolExecutor(at_once) as pool:
        notes = pool.map(lambda path: _try_predict(path, dataset, device, _lacking(path, splits)), wanted)
        return [note for note in track(notes, "predictions", len(wanted)) if note]


def _lacking(path: Path, splits: Sequence[str]) -> list[str]:
    """Return the splits that a run has no predictions of."""
    return [split for split in splits if not (path / f"{FILES[split]}.safetensors").exists()]


def _try_predict(path: Path, dataset: Dataset, device: torch.device, splits: Sequence[str]) -> str | None:
    """Predict with one run; return the reason where that is impossible."""
    none = f"no predictions of {' and '.join(splits)} images"
    try:
        run = TrainedRun.open(path)
        if run.dataset["sha256"] != dataset.sha256:
            return f"{path.name}: {none}, because it was trained on another dataset than {dataset.path}"
        if not dataset.verified:  # the predictions would stay with the run
            return f"{path.name}: {none}, because {dataset.path} was opened without being verified"
        for split in splits:
            _predict(run, dataset, device, split)
    except FastcifarError as error:
        return f"{none}: {error}"
    return None


def _predict(run: TrainedRun, dataset: Dataset, device: torch.device, split: str) -> None:
    recipe = PROTOCOLS[run.spec.protocol].recipe(run.spec.recipe)
    ids = dataset.ids(split, run.split_seed)
    labels = dataset.labels(dataset.part(split))
    assert labels is not None  # the run was trained on these labels, and `require_test_part` asks for those of test
    clean = _classes(run, dataset, device, split, recipe.still())
    same = split == "test" or recipe == recipe.still()
    augmented = clean.copy() if same else _classes(run, dataset, device, split, recipe)
    found = Predictions(ids, labels[ids].astype(np.int64), clean, augmented, run.epoch, run.line)
    found.save(run.directory, split)


def _classes(
    run: TrainedRun, dataset: Dataset, device: torch.device, split: str, augment: Augment
) -> NDArray[np.int64]:
    dtype = dtype_of(run.spec.precision)
    request: dict[str, Any] = {
        "split": split, "augment": augment, "batch_size": min(run.spec.batch_size, LARGEST_BATCH),
        "seed": run.spec.seed, "device": device, "dtype": dtype, "split_seed": run.split_seed,
    }  # fmt: skip
    with open_pipeline("resident", dataset, **request) as pipeline:
        batches = pipeline.epoch(run.epoch)
        predicted = [values.argmax(1) for values in probabilities(run, batches, device, dtype, VIEWS["none"])]
    return np.concatenate(predicted).astype(np.int64)
