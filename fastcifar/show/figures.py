"""The parts that all figures share: colours, grids of axes, plain axes, texts and files; also the training curves."""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from fastcifar.show.text import printable
from fastcifar.system.atomic import whole

# M. Okabe and K. Ito, "Color Universal Design", 2008: colour-blind readers can distinguish these
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK = "#1b1f24"
SETTINGS = {
    "font.size": 9, "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK,
    "ytick.color": INK, "svg.fonttype": "none", "svg.hashsalt": "fastcifar", "font.family": "sans-serif",
}  # fmt: skip
Runs = Sequence[Sequence[Mapping[str, Any]]]  # for each seed, the lines of metrics.jsonl


def colour(number: int) -> str:
    """Return the colour of a series. number: counted from 0; colours repeat after the last of COLOURS."""
    return COLOURS[number % len(COLOURS)]


def blank(width: float, height: float, dpi: int = 150) -> Figure:
    """Return a figure without axes, with a canvas that can draw to files. width, height: in inches."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def axes_grid(
    width: float, height: float, lines: int, columns: int, dpi: int = 150, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, row by row. options: passed to matplotlib's `Figure.subplots`."""
    figure = blank(width, height, dpi)
    return figure, list(figure.subplots(lines, columns, squeeze=False, **options).flat)


def plain_axes(axes: Axes, lines: bool = True, epochs: bool = False) -> None:
    """Remove the top and right spines. lines: draw a light grid. epochs: put only whole numbers on the x axis."""
    axes.spines[["top", "right"]].set_visible(False)
    if lines:
        axes.grid(alpha=0.25, lw=0.6)
    if epochs:
        axes.locator_params("x", integer=True)


def write_figure(figure: Figure, path: Path) -> None:
    """Write the file whole or not at all, in the format of its suffix; a path without a suffix gets a PNG.

    Missing folders are made. Raises FastcifarError if the file cannot be written.
    """
    kind = path.suffix[1:] or "png"
    take_literally(figure)
    with whole(path) as file:  # without a date, the same figure gives the same file
        figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)


def take_literally(figure: Figure) -> None:
    """Let every text of a figure be drawn as it is: no `$` begins a formula, and all characters are `printable`.

    Names of classes, runs and processors come from files. The labels of ticks are made anew when a figure is drawn, so
    that only `printable` names may be given to an axis.
    """
    for text in figure.findobj(Text):
        text.set(parse_math=False, usetex=False, text=printable(text.get_text()))


def save(figure: Figure, out: Path, name: str) -> None:
    """Write NAME.png and NAME.svg with a white background, which is readable in print and on any page."""
    with mpl.rc_context(SETTINGS):
        for suffix in ("png", "svg"):
            write_figure(figure, out / f"{name}.{suffix}")


def inline(figure: Figure, title: str) -> str:
    """Return the figure as an SVG element without background, in which the page's text colour replaces INK.

    title: its name for people who do not see it, as text. The element can stand in a page as it is.
    """
    take_literally(figure)
    buffer = io.StringIO()
    with mpl.rc_context(SETTINGS):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # these ids repeat across figures, and nothing refers to them
    return re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"|<svg height="[^"]*" ([^>]*?)width="[^"]*"',
                  lambda m: f"<svg {m[1] or m[2] or ''}", svg, count=1).replace(
        "<svg ", f'<svg role="img" aria-label="{escape(printable(title))}" ', 1)  # fmt: skip


def curves(configurations: Mapping[str, Runs], path: Path) -> None:
    """Write a figure of every configuration's losses (training dashed) and validation accuracy by epoch.

    Lines are means over the seeds; the band shows one standard deviation.
    """
    figure, (left, right) = axes_grid(10, 4, 1, 2)
    for number, (name, runs) in enumerate(configurations.items()):
        ink = colour(number)
        _band(left, runs, "train_loss", ink, f"{name}, training", "--")
        _band(left, runs, "val_loss", ink, f"{name}, validation")
        _band(right, runs, "val_accuracy", ink, name)
    for axes, title in ((left, "loss"), (right, "validation accuracy, %")):
        axes.set(title=title, xlabel="epoch")
        plain_axes(axes, epochs=True)
        names = [str(line.get_label()) for line in axes.lines]
        axes.legend(axes.lines, names, frameon=False, fontsize=7)  # by itself it leaves out names that begin with _
    write_figure(figure, path)


def _band(axes: Axes, runs: Runs, key: str, ink: str, label: str, line: str = "-") -> None:
    mean, std = mean_std(runs, key)
    scale = 100 if key == "val_accuracy" else 1  # percent
    epochs = np.arange(1, len(mean) + 1)
    axes.plot(epochs, mean * scale, color=ink, ls=line, label=label)
    axes.fill_between(epochs, (mean - std) * scale, (mean + std) * scale, color=ink, alpha=0.2, lw=0)


def mean_std(runs: Runs, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation (n - 1; 0 for one run) of a metric by epoch.

    Each epoch counts the runs that reached it. Both results are float64 arrays as long as the longest run; NaN where no
    run has a finite value.
    """
    values = np.full((len(runs), max(map(len, runs))), np.nan)
    for row, lines in zip(values, runs, strict=True):
        row[: len(lines)] = [np.nan if line[key] is None else line[key] for line in lines]
    counts = (~np.isnan(values)).sum(0)
    totals = np.nansum(values, 0)
    mean = np.divide(totals, counts, out=np.full(len(totals), np.nan), where=counts > 0)
    squares = np.nansum((values - mean) ** 2, 0)
    return mean, np.sqrt(squares / np.maximum(counts - 1, 1))
