"""Loss and accuracy by epoch: the mean over seeds, one standard deviation shaded, as the report draws them."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fastcifar.system.atomic import whole

# M. Okabe and K. Ito, "Color Universal Design", 2008: told apart by colour-blind readers
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
Runs = Sequence[Sequence[Mapping[str, Any]]]  # of each seed, its lines of metrics.jsonl


def curves(configurations: Mapping[str, Runs], path: Path) -> None:
    """Write a PNG of every configuration's losses (training dashed) and validation accuracy."""
    figure = Figure(figsize=(10, 4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for colour, (name, runs) in zip(COLOURS * len(configurations), configurations.items(), strict=False):
        _band(left, runs, "train_loss", colour, f"{name}, training", dashed=True)
        _band(left, runs, "val_loss", colour, f"{name}, validation")
        _band(right, runs, "val_accuracy", colour, name, percent=True)
    for axes, title in ((left, "loss"), (right, "validation accuracy, %")):
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _band(
    axes: Axes, runs: Runs, key: str, colour: str, label: str, dashed: bool = False, percent: bool = False
) -> None:
    mean, std = mean_std(runs, key)
    scale = 100 if percent else 1
    epochs = np.arange(1, len(mean) + 1)
    axes.plot(epochs, mean * scale, color=colour, ls="--" if dashed else "-", label=label)
    axes.fill_between(epochs, (mean - std) * scale, (mean + std) * scale, color=colour, alpha=0.2, lw=0)


def mean_std(runs: Runs, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (n - 1; 0 for a single run) of a metric by epoch, over the runs that reached it.

    float64 arrays as long as the longest run; NaN where no run has a finite value.
    """
    values = np.full((len(runs), max(map(len, runs))), np.nan)
    for row, lines in zip(values, runs, strict=True):
        row[: len(lines)] = [np.nan if line[key] is None else line[key] for line in lines]
    counts = (~np.isnan(values)).sum(0)
    totals = np.nansum(values, 0)
    mean = np.divide(totals, counts, out=np.full(len(totals), np.nan), where=counts > 0)
    squares = np.nansum((values - mean) ** 2, 0)
    return mean, np.sqrt(squares / np.maximum(counts - 1, 1))


INK = "#1b1f24"


SETTINGS = {
    "font.size": 9, "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK,
    "ytick.color": INK, "svg.fonttype": "none", "svg.hashsalt": "fastcifar", "font.family": "sans-serif",
}  # fmt: skip


def save(figure: Figure, out: Path, name: str) -> None:
    """Write NAME.png and NAME.svg, on white, which is readable in print and on any page."""
    out.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(SETTINGS):
        for suffix in ("png", "svg"):
            with whole(out / f"{name}.{suffix}") as path:
                figure.savefig(path, format=suffix, metadata={"Date": None} if suffix == "svg" else None)


def inline(figure: Figure, title: str) -> str:
    """The figure as an element of a page: no background, and where its ink is INK, that of the text around it."""
    buffer = io.StringIO()
    with mpl.rc_context(SETTINGS):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # the same in every figure, and never referred to
    return re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"|<svg height="[^"]*" ([^>]*?)width="[^"]*"',
                  lambda m: f"<svg {m[1] or m[2] or ''}", svg, count=1).replace(
        "<svg ", f'<svg role="img" aria-label="{title}" ', 1)  # fmt: skip
