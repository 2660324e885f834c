"""The report's twelve figures: their definitions, as data, and how they are drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator

from fastcifar.experiments import SEEDS, experiment
from fastcifar.report.collection import VARIED, Collection, Configuration
from fastcifar.show.figures import SETTINGS, axes_grid, colour, mean_std, plain_axes

STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))  # so that curves differ by more than colour
NAMES = MappingProxyType({"batch_size": "batch", "lr": "lr", "l2": "L2", "dropout": "dropout"})
LOSSES = ("train_loss", "val_loss")
LARGE_LOSS = 12.0  # above this loss, the axis is logarithmic


@dataclass(frozen=True)
class Shown:
    """The definition of one of the report's figures."""

    number: int
    title: str
    experiment: int
    metrics: tuple[str, ...]
    """The metrics, one for each panel: keys of metrics.jsonl."""
    by: tuple[str, ...]
    """The fields in which the figure's curves differ."""
    where: Mapping[str, Any]
    """The field values that all curves have in common."""

    def name(self, protocol: str) -> str:
        """Return the name of the figure's files, without suffix."""
        return f"figure-{self.number:02}-{protocol}"

    def points(self, protocol: str) -> list[dict[str, Any]]:
        """Return the configurations that the figure shows under a protocol, in the experiment's order, as fields of
        RunSpec."""
        return [
            point
            for point in experiment(self.experiment, protocol).configurations()
            if all(point[key] == value for key, value in self.where.items())
        ]

    def series(self, collection: Collection, protocol: str) -> list[tuple[str, Configuration]]:
        """Return the label and the configuration of each curve that has runs."""
        curves = []
        for point in self.points(protocol):
            same = collection.find(experiment=self.experiment, protocol=protocol, **{key: point[key] for key in VARIED})
            curves += [(self.label(each.values), each) for each in same]
        return curves

    def label(self, values: Mapping[str, Any]) -> str:
        """Return the label of the curve that has these field values."""
        return ", ".join(f"{NAMES[key]} {values[key]:g}" if key in NAMES else str(values[key]) for key in self.by)

    def missing(self, collection: Collection, protocol: str) -> list[str]:
        """Return the curves that have no run, and the missing seeds of the other curves, in words."""
        there = dict(self.series(collection, protocol))
        lacking = []
        for point in self.points(protocol):
            label = self.label(point)
            seeds = [str(seed) for seed in SEEDS if label not in there or seed not in there[label].runs]
            if len(seeds) == len(SEEDS):
                lacking.append(label)
            elif seeds:
                lacking.append(f"{label}: seed {', '.join(seeds)}")
        return lacking


def _pair(number: int, experiment_: int, by: tuple[str, ...], what: str, **where: Any) -> list[Shown]:
    titles = (f"{metric} by {what}, experiment {experiment_}" for metric in ("Losses", "Validation accuracy"))
    return [
        Shown(number + n, title, experiment_, metrics, by, where)
        for n, (title, metrics) in enumerate(zip(titles, (LOSSES, ("val_accuracy",)), strict=True))
    ]


PLAIN = {"l2": 0.0, "dropout": 0.0, "recipe": "none"}
FIGURES: tuple[Shown, ...] = (
    *_pair(1, 1, ("model",), "network size"),
    *_pair(3, 2, ("batch_size", "lr"), "batch size and learning rate", **PLAIN),
    *_pair(5, 2, ("l2", "dropout"), "L2 and dropout", batch_size=128, lr=1e-3, recipe="none"),
    *_pair(7, 2, ("recipe",), "augmentation", batch_size=128, lr=1e-3, l2=0.0, dropout=0.5),
    *_pair(9, 3, ("batch_size", "lr"), "batch size and learning rate", **PLAIN),
    *_pair(11, 4, ("model",), "network"),
)
PANELS = {"train_loss": "training loss", "val_loss": "validation loss", "val_accuracy": "validation accuracy, %"}


def draw_figure(shown: Shown, series: Sequence[tuple[str, Configuration]]) -> Figure:
    """Draw a figure. Each curve is the mean over seeds; the shaded area is one standard deviation (n - 1 over seeds)
    above and below the mean.
    """
    with mpl.rc_context(SETTINGS):
        panels = len(shown.metrics)
        figure, axes = axes_grid(8.6 if panels > 1 else 5.6, 3.9, 1, panels, sharey=panels > 1)
        for place, metric in zip(axes, shown.metrics, strict=True):
            _panel(place, metric, series)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=min(3, max(1, len(labels))), frameon=False, fontsize=8
        )
        return figure


def _panel(axes: Axes, metric: str, series: Sequence[tuple[str, Configuration]]) -> None:
    scale = 100 if metric == "val_accuracy" else 1
    largest = 0.0
    for n, (label, configuration) in enumerate(series):
        mean, std = mean_std([run.lines for run in configuration.runs.values()], metric)
        epochs = np.arange(1, len(mean) + 1)
        ink = colour(n)
        alone = "o" if np.isfinite(mean).sum() == 1 else None  # a line through one point is invisible
        axes.plot(epochs, mean * scale, color=ink, ls=STYLES[n % len(STYLES)], lw=1.6, marker=alone, label=label)
        axes.fill_between(epochs, (mean - std) * scale, (mean + std) * scale, color=ink, alpha=0.18, lw=0)
        largest = max([largest, *mean[np.isfinite(mean)]])
    if metric != "val_accuracy" and largest > LARGE_LOSS:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(LogFormatter())  # the usual ones write formulas, which no text of a figure may
        axes.yaxis.set_minor_formatter(LogFormatter())
    axes.set_title(PANELS[metric], fontsize=10)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(10))
    plain_axes(axes, epochs=True)
