"""What ``fastcifar train`` does between its options and its table: specs, runs one after another, results."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from fastcifar.data.dataset import Dataset
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.outcome import diverged
from fastcifar.runs.spec import RunSpec
from fastcifar.runs.tensorboard import Log, log_of
from fastcifar.show.figures import curves
from fastcifar.system.devices import leads
from fastcifar.training.compile import choose
from fastcifar.training.heads import can_be_cached, train_heads
from fastcifar.training.loop import train
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
    mode: str = "auto",
    say: Callable[[str], None] = lambda text: None,
    tensors: Mapping[str, Tensor] | None = None,
    log: Log = log_of("none"),
) -> Session:
    """Train the specs one after another, under a progress bar where a person is looking.

    mode: one of `compilation.MODES`; auto: that which a run was begun in, else the fastest for its configuration.
    say: told what auto chose, and the memory that a run took. tensors: what pretrained networks begin with.
    log: who else is told of each run's epochs, by the process that writes.
    """
    log = log if leads() else log_of("none")
    chosen: dict[str, str] = {}
    summaries: list[dict[str, Any]] = []
    shown = sys.stderr.isatty() and leads()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"), TimeElapsedColumn(),
        TextColumn("{task.fields[news]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        tasks = {}

        def watched(spec: RunSpec, logs: ExitStack) -> Callable[[Mapping[str, Any]], None]:
            tasks[spec] = progress.add_task(f"{spec.label}, seed {spec.seed}", total=spec.epochs, news="")
            events = logs.enter_context(closing(log(spec, RunDirectory.of(spec, out))))

            def watch(line: Mapping[str, Any]) -> None:
                progress.update(tasks[spec], advance=1, news=_news(line))
                events(line)

            return watch

        def ended(spec: RunSpec, summary: dict[str, Any]) -> None:
            progress.update(tasks[spec], total=summary["epochs"], completed=summary["epochs"])
            summaries.append(summary)

        for together in _together(specs):
            with ExitStack() as logs:
                watches = {spec: watched(spec, logs) for spec in together}
                if can_be_cached(together[0]):
                    trained = train_heads(together, dataset, out, device, tensors or {}, watches, say)
                    for spec, summary in zip(together, trained, strict=True):
                        ended(spec, summary)
                    continue
                (spec,) = together
                directory, now = RunDirectory.of(spec, out), mode
                if mode == "auto" and directory.summary() is None:
                    now = _mode(spec, dataset, directory, device, chosen, say)
                summary = train(spec, dataset, out, device, watches[spec], now, tensors, say)
                if summary.get("peak_device_bytes"):
                    peak = f"{summary['peak_device_bytes'] / 2**20:,.0f} MiB"
                    say(f"{spec.label}, seed {spec.seed}: took at most {peak} of {device}")
                ended(spec, summary)
    Team.joined(device).leave()
    return Session(specs, [RunDirectory.of(spec, out) for spec in specs], summaries)


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


def _mode(
    spec: RunSpec,
    dataset: Dataset,
    directory: RunDirectory,
    device: torch.device,
    chosen: dict[str, str],
    say: Callable[[str], None],
) -> str:
    """The mode that a run was begun in, whose rounding its metrics have, else the fastest for its configuration."""
    begun = directory.begun().get("mode")
    if begun:
        return str(begun)
    if spec.label not in chosen:
        choice = choose(spec, dataset, device)
        if choice.why:
            say(f"{spec.label}: --compile {choice.mode} ({choice.why})")
        chosen[spec.label] = choice.mode
    return chosen[spec.label]
