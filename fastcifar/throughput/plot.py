"""Rows as a picture: a panel a heat, a bar a contestant, whiskers for the spread, a line for the ceiling."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from fastcifar.errors import UsageError
from fastcifar.show.figures import COLOURS
from fastcifar.throughput.contestant import REPLAY
from fastcifar.throughput.table import heat_name, heat_of

Rows = Sequence[Mapping[str, Any]]
COLUMNS, WIDTH, DPI = 2, 8.0, 200  # panels beside each other; inches, so that at 800 pixels 10 points are readable
CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # so that no line crosses a figure
BAR, FRAME = 0.27, 0.75  # inches


def plot(rows: Rows, path: Path) -> None:
    """Write `bars` as a PNG. Raises as that does."""
    figure = bars(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def bars(rows: Rows) -> Figure:
    """The figure of all rows with a speed. Raises UsageError where there are none."""
    heats: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        heats.setdefault(heat_of(row), []).append(row)
    panels = [heat for heat in heats.values() if any(row["images_per_s"] for row in heat)]
    if not panels:
        raise UsageError("there is nothing to draw, as no row has a speed")
    names = dict.fromkeys(row["pipeline"].partition(":")[0] for row in rows if row["pipeline"] != REPLAY)
    lines = -(-len(panels) // COLUMNS)
    height = lines * (FRAME + BAR * max(map(len, panels)))
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, COLUMNS if len(panels) > 1 else 1, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _panel(axes, panel, dict(zip(names, COLOURS * len(names), strict=False)))
    return figure


def _panel(axes: Axes, rows: Rows, colours: Mapping[str, str]) -> None:
    timed = [row for row in rows if row["images_per_s"]]
    ceilings = [row["ceiling_images_per_s"] for row in timed if row["ceiling_images_per_s"]]
    least = min(row["images_per_s_min"] for row in timed)
    most = max([*ceilings, *(row["images_per_s_max"] for row in timed)])
    for place, row in enumerate(rows):
        if not row["images_per_s"]:
            axes.text(least / 2, place, " no speed", va="center", fontsize=8, style="italic")
            continue
        middle = row["images_per_s"]
        spread = [[middle - row["images_per_s_min"]], [row["images_per_s_max"] - middle]]
        grey = row["pipeline"] == REPLAY
        axes.barh(
            place,
            middle,
            height=0.75,
            xerr=spread,
            color="0.6" if grey else colours[row["pipeline"].partition(":")[0]],
            hatch=None if row["verified"] else "////",
            edgecolor="white",
            linewidth=0,
            error_kw={"elinewidth": 1, "capsize": 2},
        )
        note = f" {_short(middle)}{'' if row['verified'] else ' not verified'}"
        axes.text(row["images_per_s_max"] * 1.05, place, note, va="center", fontsize=8, bbox=CLEAR)
    for ceiling in {round(ceiling) for ceiling in ceilings}:
        axes.axvline(ceiling, color="0.3", ls=":", lw=1)
    axes.set_xscale("log")
    axes.set_xlim(least / 2, most * 6)
    axes.set_yticks(range(len(rows)), [row["pipeline"] for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first on top
    axes.set_title(heat_name(rows[0]), fontsize=9, loc="left")
    axes.set_xlabel("images/s" + ("; dotted: memory's bandwidth" if ceilings else ""), fontsize=8)
    axes.xaxis.set_major_locator(LogLocator(10, numticks=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _short(value: float) -> str:
    """12,345 as 12.3k."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
