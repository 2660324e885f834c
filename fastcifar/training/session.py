"""A session: runs that are trained one after another, with progress bars on a terminal, and their results."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from fastcifar.data.dataset import Dataset
from fastcifar.runs.code import changed_since
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.epochs import trained_anew
from fastcifar.runs.logs import Log, log_of
from fastcifar.runs.outcome import diverged
from fastcifar.runs.spec import RunSpec
from fastcifar.show.console import note
from fastcifar.show.figures import curves
from fastcifar.show.progress import Sparse
from fastcifar.show.text import counted, spread
from fastcifar.system.launch import leads
from fastcifar.training.compile import Modes
from fastcifar.training.heads import can_be_cached, train_heads
from fastcifar.training.loop import train
from fastcifar.training.options import Options, Watch, silent
from fastcifar.training.pace import Steps, Tell
from fastcifar.training.record import threads_as_begun
from fastcifar.training.single import check_single_images
from fastcifar.training.team import Team

BESIDE = 26  # columns of a bar's line that its news does not get, for a seed and a count of epochs of three digits


@dataclass(frozen=True)
class Session:
    """The finished runs of a session, in order: their specs, directories and summaries."""

    specs: Sequence[RunSpec]
    directories: Sequence[RunDirectory]
    summaries: Sequence[Mapping[str, Any]]

    def by_configuration(self) -> dict[str, list[Mapping[str, Any]]]:
        """Return the summaries of the runs, one list for each configuration, by label."""
        grouped: dict[str, list[Mapping[str, Any]]] = {}
        for spec, summary in zip(self.specs, self.summaries, strict=True):
            grouped.setdefault(spec.label, []).append(summary)
        return grouped

    def draw_curves(self, path: Path) -> None:
        """Draw the losses and accuracies of the runs by epoch, and write the picture to ``path``."""
        grouped: dict[str, list[list[dict[str, Any]]]] = {}
        for spec, directory in zip(self.specs, self.directories, strict=True):
            grouped.setdefault(spec.label, []).append(directory.metrics())
        curves(grouped, path)


def run(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    out: Path,
    device: torch.device,
    options: Options = Options("auto"),
    log: Log = log_of("none"),
) -> Session:
    """Train the runs of the specs one after another. Seeds of one configuration on cached features train together.

    log: makes another callback for each run's epochs; it is used only in the process that writes the runs' files.
    """
    check_single_images(specs, dataset)
    for sentence in trained_anew(specs, out):
        options.say(sentence)
    modes = Modes(dataset, device, options)
    summaries: list[dict[str, Any]] = []
    with Bars(log if leads() else log_of("none"), out) as bars:
        for together in _together(specs):
            with ExitStack() as logs:
                watches = {spec: bars.watch(spec, logs) for spec in together}
                if can_be_cached(together[0]):
                    trained = train_heads(together, dataset, out, device, watches, options)
                else:
                    (spec,) = together
                    directory = RunDirectory.of(spec, out)
                    logs.enter_context(threads_as_begun(directory, _name(spec), options.say))
                    if changed := changed_since(spec, out):
                        options.say(changed)
                    how = replace(options, mode=modes.of(spec, directory), tell=bars.steps(spec))
                    trained = [train(spec, dataset, out, device, watches[spec], how)]
                    if trained[0].get("peak_device_bytes"):
                        peak = f"{trained[0]['peak_device_bytes'] / 2**20:,.0f} MiB"
                        options.say(f"{_name(spec)}: took at most {peak} of {device}")
            bars.end(together, trained)
            summaries += trained
    Team.joined(device).leave()
    return Session(specs, [RunDirectory.of(spec, out) for spec in specs], summaries)


class Bars:
    """The progress of the runs, and the runs' other callbacks: bars on a terminal, else a line from time to time."""

    def __init__(self, log: Log, out: Path) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(10),
            MofNCompleteColumn(),
            TextColumn("{task.fields[news]}", markup=False),
        )
        self._log, self._out, self._tasks = log, out, dict[RunSpec, TaskID]()
        self._shown = sys.stderr.isatty() and leads()
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not self._shown)
        self._sparse = Sparse(note if leads() and not self._shown else silent)
        self._earlier: dict[RunSpec, int] = {}
        self._label = ""

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def watch(self, spec: RunSpec, logs: ExitStack) -> Watch:
        """Return the callback for a run's epochs. Its log is closed with ``logs``."""
        if self._shown and spec.label != self._label:  # a label is too long for the line of a bar
            note(f"{spec.label}:")
            self._label = spec.label
        task = self._progress.add_task(f"seed {spec.seed}", total=spec.epochs, news="")
        directory = RunDirectory.of(spec, self._out)
        events: Callable[[Mapping[str, Any]], None]
        events = logs.enter_context(closing(self._log(spec, directory)))
        self._tasks[spec] = task
        self._earlier[spec] = len(directory.metrics())

        def watch(line: Mapping[str, Any]) -> None:
            self._progress.update(task, advance=1, news=self._fitting(_news(line)))
            if line["epoch"] > self._earlier[spec]:
                first = line["epoch"] == self._earlier[spec] + 1
                self._sparse.line(lambda: f"{_name(spec)}: epoch {line['epoch']}, {', '.join(_news(line))}", now=first)
            events(line)

        return watch

    def steps(self, spec: RunSpec) -> Tell | None:
        """Return the callback for reports from within a run's epochs; None in a process that shows nothing."""
        if not leads():
            return None

        def tell(steps: Steps) -> None:
            self._progress.update(self._tasks[spec], news=self._fitting(steps.parts))
            self._sparse.line(lambda: f"{_name(spec)}: {steps.text} in this epoch")

        return tell

    def _fitting(self, parts: Sequence[str]) -> str:
        """Return as many of the parts, in their order, as fit beside a bar; at least the first one."""
        room = self._progress.console.width - BESIDE
        fitting = [n for n in range(1, len(parts) + 1) if len(", ".join(parts[:n])) <= room]
        return ", ".join(parts[: max(fitting, default=1)])

    def end(self, specs: Sequence[RunSpec], summaries: Sequence[Mapping[str, Any]]) -> None:
        """Set the progress bars of runs that have ended to their last epoch."""
        for spec, summary in zip(specs, summaries, strict=True):
            epochs = summary["epochs"]
            self._progress.update(self._tasks[spec], total=epochs, completed=epochs)
            if epochs > self._earlier[spec]:
                text = (
                    f"{_name(spec)}: ended after {counted(epochs, 'epoch')}, kept {spread([summary['val_accuracy']])} %"
                )
                self._sparse.line(partial(str, text), now=True)


def _name(spec: RunSpec) -> str:
    return f"{spec.label}, seed {spec.seed}"


def _together(specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    """Group the specs, in their order.

    Neighbours that share a configuration on cached features form a group. Every other spec is a group of its own.
    """
    groups: list[list[RunSpec]] = []
    for spec in specs:
        if groups and can_be_cached(spec) and replace(groups[-1][0], seed=spec.seed) == spec:
            groups[-1].append(spec)
        else:
            groups.append([spec])
    return groups


def _news(line: Mapping[str, Any]) -> list[str]:
    """Return the line of an epoch as parts of a text for people, the most important one first."""
    accuracy = "diverged" if diverged([dict(line)]) else f"{100 * line['val_accuracy']:.2f} %"
    share = [f"{100 * line['peak_share']:.0f} % of the peak"] if "peak_share" in line else []
    return [accuracy, f"{line['images_per_s']:,.0f} images/s", *share]
