"""What all figures share: colours, a grid of axes, plain axes, files; and the curves of a training session."""

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
INK = "#1b1f24"
SETTINGS = {
    "font.size": 9, "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK,
    "ytick.color": INK, "svg.fonttype": "none", "svg.hashsalt": "fastcifar", "font.family": "sans-serif",
}  # fmt: skip
Runs = Sequence[Sequence[Mapping[str, Any]]]  # of each seed, its lines of metrics.jsonl


def colour(number: int) -> str:
    """The colour of the series with this number, from 0; colours repeat where there are more series than COLOURS."""
    return COLOURS[number % len(COLOURS)]


def blank(width: float, height: float, dpi: int = 150) -> Figure:
    """A figure of that many inches, without axes; it has the canvas that draws it to a file."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def grid(
    width: float, height: float, lines: int, columns: int, dpi: int = 150, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure and its axes, line by line. Options are those of matplotlib's `Figure.subplots`."""
    figure = blank(width, height, dpi)
    return figure, list(figure.subplots(lines, columns, squeeze=False, **options).flat)


def plain(axes: Axes, lines: bool = True, epochs: bool = False) -> None:
    """Take the top and the right spine away. Lines: a light grid. Epochs: only whole numbers on the x axis."""
    axes.spines[["top", "right"]].set_visible(False)
    if lines:
        axes.grid(alpha=0.25, lw=0.6)
    if epochs:
        axes.locator_params("x", integer=True)


def write(figure: Figure, path: Path) -> None:
    """Write the file whole or not at all, in the format that its suffix names; a path without suffix gets a PNG.

    Folders on the way are made. Raises FastcifarError where the file cannot be written.
    """
    kind = path.suffix[1:] or "png"
    with whole(path) as file:  # without a date, the same figure gives the same file
        figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)


def save(figure: Figure, out: Path, name: str) -> None:
    """Write NAME.png and NAME.svg, on white, which is readable in print and on any page."""
    with mpl.rc_context(SETTINGS):
        for suffix in ("png", "svg"):
            write(figure, out / f"{name}.{suffix}")


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


def curves(configurations: Mapping[str, Runs], path: Path) -> None:
    """Write a PNG of every configuration's losses (training dashed) and validation accuracy by epoch.

    Lines are means over seeds; one standard deviation is shaded.
    """
    figure, (left, right) = grid(10, 4, 1, 2)
    for number, (name, runs) in enumerate(configurations.items()):
        ink = colour(number)
        _band(left, runs, "train_loss", ink, f"{name}, training", "--")
        _band(left, runs, "val_loss", ink, f"{name}, validation")
        _band(right, runs, "val_accuracy", ink, name)
    for axes, title in ((left, "loss"), (right, "validation accuracy, %")):
        axes.set(title=title, xlabel="epoch")
        plain(axes, epochs=True)
        axes.legend(frameon=False, fontsize=7)
    write(figure, path)


def _band(axes: Axes, runs: Runs, key: str, ink: str, label: str, line: str = "-") -> None:
    mean, std = mean_std(runs, key)
    scale = 100 if key == "val_accuracy" else 1  # percent
    epochs = np.arange(1, len(mean) + 1)
    axes.plot(epochs, mean * scale, color=ink, ls=line, label=label)
    axes.fill_between(epochs, (mean - std) * scale, (mean + std) * scale, color=ink, alpha=0.2, lw=0)


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
