"""A session: runs trained one after another, under a progress bar where a person is looking, and their results."""

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
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.outcome import diverged
from fastcifar.runs.spec import RunSpec
from fastcifar.runs.tensorboard import Log, log_of
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
        """The summaries of each configuration's seeds."""
        grouped: dict[str, list[Mapping[str, Any]]] = {}
        for spec, summary in zip(self.specs, self.summaries, strict=True):
            grouped.setdefault(spec.label, []).append(summary)
        return grouped

    def draw_curves(self, path: Path) -> None:
        """Write the picture of losses and accuracies."""
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
    """Train the specs one after another; seeds of one configuration on cached features together.

    log: makes a further watcher of each run's epochs, in the process that writes.
    """
    modes = Modes(dataset, device, options)
    summaries: list[dict[str, Any]] = []
    with Bars(log if leads() else log_of("none"), out) as bars:
        for together in _together(specs):
            with ExitStack() as logs:
                watches = {spec: bars.watch(spec, logs) for spec in together}
                if can_be_cached(together[0]):
                    found = train_heads(together, dataset, out, device, watches, options)
                else:
                    (spec,) = together
                    how = replace(options, mode=modes.of(spec, RunDirectory.of(spec, out)))
                    found = [train(spec, dataset, out, device, watches[spec], how)]
                    if found[0].get("peak_device_bytes"):
                        peak = f"{found[0]['peak_device_bytes'] / 2**20:,.0f} MiB"
                        options.say(f"{spec.label}, seed {spec.seed}: took at most {peak} of {device}")
            bars.end(together, found)
            summaries += found
    Team.joined(device).leave()
    return Session(specs, [RunDirectory.of(spec, out) for spec in specs], summaries)


class Bars:
    """A progress bar for each run, where a person is looking, and the run's other watchers."""

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
        """The callback for a run's epochs. What it opens is closed with ``logs``."""
        task = self._progress.add_task(f"{spec.label}, seed {spec.seed}", total=spec.epochs, news="")
        events: Callable[[Mapping[str, Any]], None]
        events = logs.enter_context(closing(self._log(spec, RunDirectory.of(spec, self._out))))
        self._tasks[spec] = task

        def watch(line: Mapping[str, Any]) -> None:
            self._progress.update(task, advance=1, news=_news(line))
            events(line)

        return watch

    def end(self, specs: Sequence[RunSpec], summaries: Sequence[Mapping[str, Any]]) -> None:
        """Fill the bars of runs that have ended."""
        for spec, summary in zip(specs, summaries, strict=True):
            self._progress.update(self._tasks[spec], total=summary["epochs"], completed=summary["epochs"])


def _together(specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    """The specs in their order: neighbours that are one configuration of cached features together, others alone."""
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
