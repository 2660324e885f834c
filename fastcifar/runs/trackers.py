"""The callbacks of --log wandb and --log mlflow for a run's epochs, through these libraries.

A run has one record in the service, named by its run-id, however many sessions train it. Where the records are kept is
the libraries' own setting: WANDB_MODE, WANDB_PROJECT, MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and others.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from typing import Any

from fastcifar.errors import FastcifarError
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec
from fastcifar.runs.tensorboard import SCALARS

PROJECT = "fastcifar"  # the project of W&B, or the experiment of MLflow, unless its variable names another one
LONGEST_ID = 128  # characters of a run's id in W&B


class Tracker(ABC):
    """A callback that writes the metrics of SCALARS, by epoch, and the spec as parameters.

    Epochs that an earlier session has written are not written again. If an earlier session finished the run, `close`
    writes what is missing.
    """

    library: str

    def __init__(self, spec: RunSpec, directory: RunDirectory) -> None:
        self._spec, self._directory = spec, directory
        self._written: int | None = None  # the last epoch in the record; None until the first epoch of this session

    def __call__(self, line: Mapping[str, Any]) -> None:
        """Write an epoch. Raises FastcifarError where the library fails."""
        try:
            if self._written is None:
                self._written = self._begin()
            if line["epoch"] > self._written:
                # None stands for NaN and infinity
                self._write({tag: line[key] for tag, key in SCALARS.items() if line[key] is not None}, line["epoch"])
                self._written = line["epoch"]
        except Exception as error:  # the library's clients raise errors of many kinds
            raise FastcifarError(
                f"--log {self.library} failed ({type(error).__name__}: {error}); once it works, or without --log, run "
                "the same command again: it continues from the last whole epoch"
            ) from error

    def close(self) -> None:
        """End the record. Where an earlier session finished the run, write all epochs first."""
        if self._written is None and self._directory.summary() is not None:
            for line in self._directory.metrics():
                self(line)
        if self._written is not None:
            self._end()

    @abstractmethod
    def _begin(self) -> int:
        """Open the run's record, and return the last epoch that it has, 0 for a new one."""

    @abstractmethod
    def _write(self, values: Mapping[str, float], epoch: int) -> None:
        """Write the metrics of an epoch."""

    @abstractmethod
    def _end(self) -> None:
        """Close the record."""


class WandB(Tracker):
    """A callback for Weights & Biases. Its files are in ``<run directory>/wandb/``."""

    library = "wandb"

    def _begin(self) -> int:
        self._run: Any = import_module("wandb").init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), id=self._spec.run_id[-LONGEST_ID:],
            name=self._spec.run_id, group=self._spec.label, config=asdict(self._spec), resume="allow",
            dir=str(self._directory.path), reinit="create_new",
        )  # fmt: skip
        return max(0, self._run.step - 1)  # the step of a resumed run is the one after its last

    def _write(self, values: Mapping[str, float], epoch: int) -> None:
        self._run.log(dict(values), step=epoch)

    def _end(self) -> None:
        self._run.finish()


class MLflow(Tracker):
    """A callback for MLflow. A run is found again by the tag ``fastcifar.run_id``."""

    library = "mlflow"
    TAG = "fastcifar.run_id"

    def _begin(self) -> int:
        self._client: Any = import_module("mlflow").MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if known is None else known.experiment_id
        run_id = self._spec.run_id
        runs = self._client.search_runs([experiment], f"tags.`{self.TAG}` = '{run_id}'")
        if runs:
            self._id = runs[0].info.run_id
            history = self._client.get_metric_history(self._id, "images_per_s")
            return max((metric.step for metric in history), default=0)
        self._id = self._client.create_run(experiment, tags={self.TAG: run_id}, run_name=run_id).info.run_id
        for key, value in asdict(self._spec).items():
            self._client.log_param(self._id, key, value)
        return 0

    def _write(self, values: Mapping[str, float], epoch: int) -> None:
        for tag, value in values.items():
            self._client.log_metric(self._id, tag, value, step=epoch)

    def _end(self) -> None:
        self._client.set_terminated(self._id)
