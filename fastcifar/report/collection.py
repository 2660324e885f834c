"""The runs that a report is made from, as configurations; and which runs are missing, damaged or set aside."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError
from fastcifar.experiments import EXPERIMENTS, PROTOCOLS, SEEDS, experiment
from fastcifar.report.predictions import FILES, Predictions
from fastcifar.runs.outcome import Lines
from fastcifar.runs.record import RunRecord, read_runs
from fastcifar.runs.rows import Row, row_of
from fastcifar.show.text import counted

VARIED = ("model", "batch_size", "lr", "l2", "dropout", "recipe")
"""The fields that identify a configuration, together with experiment and protocol."""
SETTINGS = {
    ("experiment", "protocol"): ("dataset", "max_epochs", "precision", "pipeline"),
    ("experiment", "protocol", "model"): ("tune", "weights", "optimizer", "schedule", "smoothing", "code"),
}
"""The fields in which all runs of a group must agree. Key: the fields that define a group, such as an experiment under
a protocol. Runs that disagree with the majority of their group are set aside.
"""
ENDED = ("finished", "diverged")


@dataclass(frozen=True)
class Run:
    """A run that has ended, with the predictions of its kept weights on the validation images, if there are any."""

    record: RunRecord
    predictions: Predictions | None
    tests: Predictions | None = None
    """The predictions of the dataset's labelled test images. They are read only for a report that asks for them."""

    @cached_property
    def row(self) -> Row:
        return row_of(self.record)

    @property
    def lines(self) -> Lines:
        """The lines of metrics.jsonl."""
        return self.record.lines

    @property
    def about(self) -> Mapping[str, Any]:
        """The contents of summary.json."""
        return self.record.summary or {}

    @property
    def begun(self) -> Mapping[str, Any]:
        """The contents of run.json."""
        return self.record.begun

    @property
    def run_id(self) -> str:
        return self.record.run_id

    @property
    def path(self) -> Path:
        """The run's directory."""
        return self.record.path

    @property
    def accuracy(self) -> float | None:
        """Validation accuracy of the kept epoch, in [0, 1]; None where the run diverged before any epoch was kept."""
        value = self.row["val_accuracy"]
        return None if value is None else float(value)


@dataclass(frozen=True)
class Configuration:
    """Runs that differ only in their seeds."""

    experiment: int
    protocol: str
    values: Mapping[str, Any]
    """The value of each field of VARIED."""
    runs: Mapping[int, Run]

    @property
    def label(self) -> str:
        """A text that names the configuration for people."""
        values = self.values
        return (
            f"{values['model']}, {values['recipe']}, batch {values['batch_size']}, lr {values['lr']:g}, "
            f"L2 {values['l2']:g}, dropout {values['dropout']:g}"
        )

    @property
    def accuracies(self) -> list[float | None]:
        return [run.accuracy for run in self.runs.values()]

    @property
    def known(self) -> list[float]:
        """The accuracies of the runs that have one, in [0, 1]."""
        return [accuracy for accuracy in self.accuracies if accuracy is not None]

    @property
    def tests(self) -> dict[str, Predictions]:
        """The predictions of the dataset's test images by run-id, of the runs that have them."""
        return {run.run_id: run.tests for run in self.runs.values() if run.tests is not None}

    def has(self, **wanted: Any) -> bool:
        """Return whether the configuration has all of these field values."""
        own = {"experiment": self.experiment, "protocol": self.protocol, **self.values}
        return all(own[key] == value for key, value in wanted.items())


@dataclass(frozen=True)
class Collection:
    """The runs below a folder."""

    configurations: Sequence[Configuration]
    notes: Sequence[str]
    """Sentences on runs that were left out, each with the reason."""
    unfinished: Sequence[Mapping[str, Any]]
    """The rows of runs that have not ended."""

    @property
    def runs(self) -> list[Run]:
        return [run for each in self.configurations for run in each.runs.values()]

    @property
    def protocols(self) -> list[str]:
        """The protocols that have runs, in their usual order."""
        return [name for name in PROTOCOLS if any(each.protocol == name for each in self.configurations)]

    def find(self, **wanted: Any) -> list[Configuration]:
        """Return the configurations that have all of these field values, in the order of the grid."""
        return [each for each in self.configurations if each.has(**wanted)]

    def missing(self) -> list[tuple[int, str, int, int]]:
        """Return (experiment, protocol, runs that have ended, runs of the whole grid), by experiment and protocol."""
        counts = []
        for number in EXPERIMENTS:
            for protocol in PROTOCOLS:
                points = experiment(number, protocol).configurations()
                ended = sum(
                    seed in each.runs
                    for point in points
                    for each in self.find(experiment=number, protocol=protocol, **{key: point[key] for key in VARIED})
                    for seed in SEEDS
                )
                counts.append((number, protocol, ended, len(points) * len(SEEDS)))
        return counts


def run_ids(*configurations: Configuration) -> tuple[str, ...]:
    """Return the ids of all runs of the configurations."""
    return tuple(run.run_id for each in configurations for run in each.runs.values())


def matched(a: Configuration, b: Configuration) -> list[tuple[Run, Run, float, float]]:
    """Return, for each seed whose runs have an accuracy in both configurations, the two runs and their accuracies."""
    pairs = [(a.runs[seed], b.runs[seed]) for seed in a.runs if seed in b.runs]
    return [(x, y, x.accuracy, y.accuracy) for x, y in pairs if x.accuracy is not None and y.accuracy is not None]


def collect(out: Path) -> Collection:
    """Read every run below ``out``, once. Raises UsageError where ``out`` is no folder."""
    read = read_runs(out)
    notes = [*read.damaged.values(), *read.foreign.values()]
    runs: list[Run] = []
    unfinished = []
    for record in read.records:
        if record.status not in ENDED:
            unfinished.append(row_of(record))
            continue
        try:
            _ = record.lines  # read now, so that a damaged file is noted here
        except (FastcifarError, OSError) as error:
            notes.append(str(error))
            continue
        runs.append(Run(record, _predictions(record, notes)))
    for group, fields in SETTINGS.items():
        runs, aside = _alike(runs, group, fields)
        notes += aside
    for name, count in Counter(str(row["status"]) for row in unfinished).items():
        notes.append(f"{counted(count, 'run')} {name}: left out until finished")
    return Collection(_configurations(runs), notes, unfinished)


def with_predictions(collection: Collection, tested: Dataset | None = None) -> Collection:
    """Return the same runs, with the predictions that were saved after the runs were read.

    tested: the dataset with labelled test images whose predictions are read, too. None: they are left out.
    """
    notes = list(collection.notes)

    def read_again(run: Run) -> Run:
        found = run.predictions if run.predictions is not None else _predictions(run.record, notes)
        return Run(run.record, found, None if tested is None else _tests(run.record, tested, notes))

    configurations = [
        replace(each, runs={seed: read_again(run) for seed, run in each.runs.items()})
        for each in collection.configurations
    ]
    return replace(collection, configurations=configurations, notes=list(dict.fromkeys(notes)))


def _tests(record: RunRecord, dataset: Dataset, notes: list[str]) -> Predictions | None:
    """Return a run's predictions of the dataset's test images, or None with a note where they are of other images."""
    tests, labels = _predictions(record, notes, "test"), dataset.labels("test")
    if tests is None or labels is None:
        return None
    if record.begun.get("dataset", {}).get("sha256") != dataset.sha256:
        notes.append(
            f"{record.run_id} predicts the test images of another dataset than {dataset.path}; they are left out"
        )
        return None
    if not np.array_equal(tests.labels, labels):
        notes.append(
            f"{record.path / FILES['test']}.safetensors is of other images than the dataset's test images; delete it, "
            "and fastcifar report --data --test makes it anew"
        )
        return None
    return tests


def _predictions(record: RunRecord, notes: list[str], split: str = "validation") -> Predictions | None:
    """Return the predictions that are saved with a run, or None.

    A damaged file gives None and a note, because the run itself is still usable.
    """
    try:
        return Predictions.read(record.directory, split)
    except FastcifarError as error:
        notes.append(str(error))
        return None


def _alike(runs: Sequence[Run], group: Sequence[str], fields: Sequence[str]) -> tuple[list[Run], list[str]]:
    """Split runs into those whose fields have the most frequent values of their group, and notes on the other runs."""
    kept: list[Run] = []
    notes: list[str] = []
    for _, same in _grouped(runs, lambda run: tuple(run.row[key] for key in group)):
        settings = _grouped(same, lambda run: tuple(run.row[key] for key in fields))
        (usual, most), *others = sorted(settings, key=lambda pair: -len(pair[1]))
        kept += most
        for setting, rest in others:
            differs = ", ".join(
                f"{key} {str(value)[:12]}, not {str(common)[:12]}"
                for key, value, common in zip(fields, setting, usual, strict=True)
                if value != common
            )
            first = rest[0].row
            notes.append(
                f"{counted(len(rest), 'run')} of experiment {first['experiment']}, {first['protocol']}, set aside: "
                f"{differs} ({first['run_id']}{' and others' if len(rest) > 1 else ''})"
            )
    return kept, notes


def _configurations(runs: Sequence[Run]) -> list[Configuration]:
    grouped = _grouped(
        runs, lambda run: (run.row["experiment"], run.row["protocol"], *(run.row[key] for key in VARIED))
    )
    made = []
    for (number, protocol, *values), same in grouped:
        by_seed = {run.row["seed"]: run for run in sorted(same, key=lambda run: run.row["seed"])}
        made.append(Configuration(number, protocol, dict(zip(VARIED, values, strict=True)), by_seed))
    return sorted(made, key=_place)


def _place(each: Configuration) -> tuple[Any, ...]:
    """Return the sort key of a configuration: its place in its experiment's grid. Others come after the grid."""
    points = experiment(each.experiment, each.protocol).configurations()
    place = next((n for n, point in enumerate(points) if each.has(**{key: point[key] for key in VARIED})), len(points))
    return each.experiment, list(PROTOCOLS).index(each.protocol), place, each.label


def _grouped(runs: Iterable[Run], key: Callable[[Run], Any]) -> list[tuple[Any, list[Run]]]:
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.items())
