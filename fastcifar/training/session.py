"""A session: runs that are trained one after another, with progress bars on a terminal, and their results."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from fastcifar.data.dataset import Dataset
from fastcifar.runs.code import changed_since
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.logs import Log, log_of
from fastcifar.runs.outcome import diverged
from fastcifar.runs.spec import RunSpec
from fastcifar.show.figures import curves
from fastcifar.system.devices import leads
from fastcifar.training.compile import Modes
from fastcifar.training.heads import can_be_cached, train_heads
from fastcifar.training.loop import train
from fastcifar.training.options import Options, Watch
from fastcifar.training.team import Team


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
                    if changed := changed_since(spec, out):
                        options.say(changed)
                    how = replace(options, mode=modes.of(spec, RunDirectory.of(spec, out)))
                    trained = [train(spec, dataset, out, device, watches[spec], how)]
                    if trained[0].get("peak_device_bytes"):
                        peak = f"{trained[0]['peak_device_bytes'] / 2**20:,.0f} MiB"
                        options.say(f"{spec.label}, seed {spec.seed}: took at most {peak} of {device}")
            bars.end(together, trained)
            summaries += trained
    Team.joined(device).leave()
    return Session(specs, [RunDirectory.of(spec, out) for spec in specs], summaries)


class Bars:
    """The progress bars of the runs, shown only on a terminal, and the runs' other callbacks."""

    def __init__(self, log: Log, out: Path) -> None:
        shown = sys.stderr.isatty() and leads()
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"),
            TimeElapsedColumn(), TextColumn("{task.fields[news]}"),
        )  # fmt: skip
        self._log, self._out, self._tasks = log, out, dict[RunSpec, TaskID]()
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not shown)

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def watch(self, spec: RunSpec, logs: ExitStack) -> Watch:
        """Return the callback for a run's epochs. Its log is closed with ``logs``."""
        task = self._progress.add_task(f"{spec.label}, seed {spec.seed}", total=spec.epochs, news="")
        events: Callable[[Mapping[str, Any]], None]
        events = logs.enter_context(closing(self._log(spec, RunDirectory.of(spec, self._out))))
        self._tasks[spec] = task

        def watch(line: Mapping[str, Any]) -> None:
            self._progress.update(task, advance=1, news=_news(line))
            events(line)

        return watch

    def end(self, specs: Sequence[RunSpec], summaries: Sequence[Mapping[str, Any]]) -> None:
        """Set the progress bars of runs that have ended to their last epoch."""
        for spec, summary in zip(specs, summaries, strict=True):
            self._progress.update(self._tasks[spec], total=summary["epochs"], completed=summary["epochs"])


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


def _news(line: Mapping[str, Any]) -> str:
    accuracy = "diverged" if diverged([dict(line)]) else f"{100 * line['val_accuracy']:.2f} %"
    share = f", {100 * line['peak_share']:.0f} % of the peak" if "peak_share" in line else ""
    return f"{accuracy}  {line['images_per_s']:,.0f} images/s{share}"
