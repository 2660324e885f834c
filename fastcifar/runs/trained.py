"""A run with kept weights: open it, compare it with the dataset for the predictions, and load its network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.models.build import build
from fastcifar.models.restore import fill
from fastcifar.runs.directory import RunDirectory, require_runs
from fastcifar.runs.spec import RunSpec
from fastcifar.system.devices import exact

CPU = torch.device("cpu")


@dataclass(frozen=True)
class TrainedRun:
    """A run with kept weights. Its network is loaded only when `network` is called."""

    directory: RunDirectory
    spec: RunSpec
    dataset: dict[str, Any]
    """The dataset of the training: name, sha256, and classes (which old runs do not have)."""
    outputs: int
    """The number of classes of the network."""
    epoch: int
    """The epoch of the kept weights, counted from 1."""
    line: str | None
    """The seal of that epoch's line in metrics.jsonl; None for a run without seals."""

    @classmethod
    def open(cls, path: Path) -> "TrainedRun":
        """Open a run directory.

        Raises UsageError where the directory is no run or has no weights, FastcifarError where it is damaged.
        """
        require_runs([path])
        directory = RunDirectory(path)
        begun = directory.begun()
        saved = directory.load_tensors("model", CPU)
        if saved is None:
            summary = directory.summary()
            state = summary["status"] if summary else "not finished"
            kept = summary is not None and summary["kept_epoch"] is not None
            cure = f"delete {path}, and train it anew" if kept else "choose another run" if summary else "train it on"
            raise UsageError(f"{path} is {state} and has no model.safetensors, so no weights to predict with; {cure}")
        tensors, note = saved
        directory.check_epoch("model", note)
        try:
            spec = RunSpec(**begun["spec"])
            about = dict(begun["dataset"])
            outputs = len(about["classes"] if "classes" in about else tensors["head.bias"])
            return cls(directory, spec, about, outputs, int(note["epoch"]), note.get("line"))
        except (KeyError, TypeError, ValueError) as error:
            raise FastcifarError(
                f"{path} does not hold a run that this version knows ({error!r}); delete it to train it anew"
            ) from error

    def __str__(self) -> str:
        return str(self.directory.path)

    @property
    def split_seed(self) -> int | None:
        """The seed of the split into training and validation images. None: the dataset's own split."""
        return self.spec.seed if PROTOCOLS[self.spec.protocol].split_by_seed else None

    def require_fit(self, dataset: Dataset) -> None:
        """Raise UsageError unless the run's classes are the dataset's."""
        classes = self.dataset.get("classes")
        if self.outputs == len(dataset.classes) and classes in (None, list(dataset.classes)):
            return
        known = f" ({_some(classes)})" if classes else ""
        raise UsageError(
            f"{self} tells {self.outputs} classes apart{known}, but {dataset.path} has {len(dataset.classes)} "
            f"({_some(dataset.classes)}); choose a dataset with the run's classes, or train a run on this one"
        )

    def notes(self, dataset: Dataset) -> list[str]:
        """Return warnings about the run's predictions on a dataset that it fits."""
        notes = []
        summary = self.directory.summary()
        state = summary["status"] if summary else "not finished"
        if self.dataset.get("verified") is False:
            notes.append(f"{self} was trained with --no-verify, so perhaps on other images than its dataset's")
        if state != "finished":
            notes.append(f"{self} is {state}; its weights are those of epoch {self.epoch}")
        if self.dataset["sha256"] != dataset.sha256:
            unknown = "" if "classes" in self.dataset else f", whose {self.outputs} classes may differ"
            notes.append(
                f"{self} was trained on another dataset, {self.dataset['name']}{unknown}; "
                f"images of {dataset.path} may be among its training images"
            )
        return notes

    def network(self, device: torch.device) -> nn.Module:
        """Return the network with the kept weights, on ``device``, in channels_last memory, in evaluation mode.

        Raises FastcifarError where the weights do not fit the network.
        """
        spec = self.spec
        exact(device)
        model = build(spec.model, self.outputs, spec.dropout, spec.seed, spec.code, spec.fine_tuned)
        saved = self.directory.load_tensors("model", CPU)
        try:
            fill(model, saved[0] if saved else {})
        except ValueError as error:
            raise FastcifarError(f"{self}: model.safetensors does not hold a {spec.model} ({error})") from error
        return model.to(device).to(memory_format=torch.channels_last).eval()


def open_runs(paths: Sequence[Path], dataset: Dataset) -> list[TrainedRun]:
    """Open the runs of an ensemble for a dataset.

    Raises UsageError for a run that does not fit the dataset, or that is given twice.
    """
    runs: dict[str, TrainedRun] = {}
    for path in paths:
        run = TrainedRun.open(path)
        run.require_fit(dataset)
        if (twin := runs.get(run.spec.run_id)) is not None:
            raise UsageError(f"{twin} and {run} are the same run, {run.spec.run_id}; leave one out")
        runs[run.spec.run_id] = run
    return list(runs.values())


def _some(classes: Sequence[str], shown: int = 10) -> str:
    return ", ".join(classes[:shown]) + (", ..." if len(classes) > shown else "")
