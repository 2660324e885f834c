"""The callback of --log tensorboard for a run's epochs."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fastcifar.errors import FastcifarError
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec

SCALARS = {
    "train/loss": "train_loss",
    "val/loss": "val_loss",
    "val/accuracy": "val_accuracy",
    "images_per_s": "images_per_s",
}
"""The names of the metrics in a log, with the keys of metrics.jsonl. Accuracies are in [0, 1]."""
EXACT = 1 << 53  # TensorBoard's numbers are float64, which is exact for all integers up to this one


class Events:
    """A callback that writes ``<run directory>/tensorboard/``: SCALARS by epoch, in float64, and the spec as
    hyperparameters.

    Each session writes the files again from the first epoch on, so that no epoch is there twice. If an earlier
    session finished the run, `close` writes the files.
    """

    def __init__(self, spec: RunSpec, directory: RunDirectory) -> None:
        self._spec, self._directory = spec, directory
        self._folder = directory.path / "tensorboard"
        self._writer: Any = None  # until the first epoch: before, another process may be training here
        self._time = 0.0

    def __call__(self, line: Mapping[str, Any]) -> None:
        """Write an epoch. It is on the disk when this returns. Raises FastcifarError where it cannot be written."""
        try:
            if self._writer is None:
                self._begin()
            self._time += line["seconds"]
            for tag, key in SCALARS.items():
                if line[key] is not None:  # None stands for NaN and infinity
                    self._writer.add_scalar(
                        tag, line[key], line["epoch"], self._time, new_style=True, double_precision=True
                    )
            self._writer.flush()
        except OSError as error:
            raise FastcifarError(
                f"cannot write {self._folder} ({error.strerror or error}); once it can be written, or without --log, "
                "run the same command again: it continues from the last whole epoch"
            ) from error

    def close(self) -> None:
        """Close the file. Where an earlier session finished the run, write all epochs first."""
        if self._writer is None and self._directory.summary() is not None:
            for line in self._directory.metrics():
                self(line)
        if self._writer is not None:
            self._writer.close()

    def _begin(self) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        for old in self._folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(self._folder))
        # The time of an epoch is the begin of the run plus the seconds of training, without interruptions.
        self._time = (self._directory.path / "run.json").stat().st_mtime
        spec = {
            name: str(value) if isinstance(value, int) and value > EXACT else value
            for name, value in asdict(self._spec).items()
        }
        # add_hparams is not used, as it would write to a new folder that is named by the time.
        for summary in hparams(spec, dict.fromkeys(("val/accuracy", "val/loss"))):
            self._writer.file_writer.add_summary(summary, walltime=self._time)
