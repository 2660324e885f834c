"""A picture of rows with a panel for each heat. Each contestant has a dot at its median and a line for its range."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from fastcifar.errors import UsageError
from fastcifar.show.figures import axes_grid, colour, plain_axes, write_figure
from fastcifar.show.text import printable
from fastcifar.throughput.contestant import REPLAY
from fastcifar.throughput.table import heat_name, heat_of

Rows = Sequence[Mapping[str, Any]]
COLUMNS, WIDTH, DPI = 2, 8.0, 200  # panels side by side; inches: at 800 pixels, 10 points are readable; dots an inch
CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # so that no line crosses a number
LINE, FRAME = 0.23, 0.75  # heights in inches: of a contestant, and of a panel's title and axis
FIGURES, UNVERIFIED_FIGURES = 0.2, 0.42  # shares of a panel's width that the words beside a line take


def plot(rows: Rows, path: Path) -> None:
    """Write the figure of `dots` as a PNG. Raises as `dots` and `show.figures.write_figure` do."""
    write_figure(dots(rows), path)


def dots(rows: Rows, side_by_side: int = COLUMNS) -> Figure:
    """Return the figure of all rows with a speed. Raises UsageError where there are none.

    side_by_side: the most panels side by side. One is for a narrow screen; its figure is as wide as a panel.
    The axes are logarithmic. Such an axis has no zero, so a bar on it would have no meaningful length.
    """
    heats: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        heats.setdefault(heat_of(row), []).append(row)
    panels = [heat for heat in heats.values() if any(row["images_per_s"] for row in heat)]
    if not panels:
        raise UsageError("there is nothing to draw, as no row has a speed (images_per_s); choose other rows")
    names = dict.fromkeys(_family(row) for row in rows if row["pipeline"] != REPLAY)
    colours = {name: colour(number) for number, name in enumerate(names)}
    columns = min(side_by_side, len(panels))
    contestants = [max(map(len, panels[first : first + columns])) for first in range(0, len(panels), columns)]
    height = 0.3 + sum(FRAME + LINE * count for count in contestants)
    figure, axes = axes_grid(
        WIDTH * side_by_side / COLUMNS, height, len(contestants), columns, DPI, height_ratios=contestants
    )
    for place, panel in zip(axes, panels, strict=False):
        _panel(place, panel, colours)
    for place in axes[len(panels) :]:
        place.set_visible(False)
    figure.supxlabel(_explained([row for panel in panels for row in panel]), fontsize=8, wrap=True)
    return figure


def _family(row: Mapping[str, Any]) -> str:
    """Return the pipeline's name without its form, as all its forms share a colour."""
    return str(row["pipeline"].partition(":")[0])


def _explained(rows: Rows) -> str:
    """Return an explanation of the marks in the picture."""
    timed = [row for row in rows if row["images_per_s"]]
    lines = ["A dot is the median of the turns; its line goes from the slowest to the fastest turn."]
    if any(row["ceiling_images_per_s"] for row in timed):
        lines.append("A dotted line is the speed that the memory's bandwidth would allow.")
    if not all(row["verified"] for row in timed):
        lines.append("An open dot belongs to a contestant whose pixels were not verified.")
    return "\n".join(lines)


def _panel(axes: Axes, rows: Rows, colours: Mapping[str, str]) -> None:
    timed = [row for row in rows if row["images_per_s"]]
    ceilings = {round(row["ceiling_images_per_s"]) for row in timed if row["ceiling_images_per_s"]}
    least = min(row["images_per_s_min"] for row in timed) / 2
    most = max([1.5 * ceiling for ceiling in ceilings] + [_room(row, least) for row in timed])
    axes.set_xscale("log")
    axes.set_xlim(least, most)
    for ceiling in ceilings:
        axes.axvline(ceiling, color="0.3", ls=":", lw=1.2)
    for place, row in enumerate(rows):
        if row["images_per_s"]:
            ink = "0.6" if row["pipeline"] == REPLAY else colours[_family(row)]
            _contestant(axes, place, row, ink, _left(row, ceilings, least, most))
        else:
            _words(axes, "no speed", least, place, style="italic")
    axes.set_yticks(range(len(rows)), [printable(row["pipeline"]) for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first on top
    axes.set_title(heat_name(rows[0]), fontsize=9, loc="left")
    axes.set_xlabel("images/s", fontsize=8)
    axes.xaxis.set_major_locator(LogLocator(10, (1,) if most > 30 * least else (1, 2, 3, 5, 7), numticks=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.set_axisbelow(True)
    plain_axes(axes)


def _contestant(axes: Axes, place: int, row: Mapping[str, Any], ink: str, left: bool) -> None:
    """Draw the dot, the line and, left or right of the line, the speed as a number."""
    least, most = row["images_per_s_min"], row["images_per_s_max"]
    axes.plot([least, most], [place, place], "|-", color=ink, lw=1.5, ms=7, mew=1.5)
    face = ink if row["verified"] else "white"
    axes.plot(row["images_per_s"], place, "o", ms=5, mec=ink, mfc=face, mew=1.2, zorder=2.5)
    words = _short(row["images_per_s"]) + ("" if row["verified"] else ", not verified")
    _words(axes, words, least if left else most, place, left)


def _words(axes: Axes, words: str, x: float, place: int, left: bool = False, **options: Any) -> None:
    away, side = (-5, "right") if left else (5, "left")
    axes.annotate(
        words,
        (x, place),
        (away, 0),
        textcoords="offset points",
        ha=side,
        va="center",
        fontsize=8,
        bbox=CLEAR,
        **options,
    )


def _share(row: Mapping[str, Any]) -> float:
    return FIGURES if row["verified"] else UNVERIFIED_FIGURES


def _room(row: Mapping[str, Any], least: float) -> float:
    """Return the right end of a logarithmic axis from ``least`` that leaves room for the words right of the line."""
    return float(least * (row["images_per_s_max"] / least) ** (1 / (1 - _share(row))))


def _left(row: Mapping[str, Any], ceilings: Collection[float], least: float, most: float) -> bool:
    """Return whether a ceiling would cross the words right of the line while there is room left of the line."""
    width = (most / least) ** _share(row)
    crossed = any(row["images_per_s_max"] <= ceiling < row["images_per_s_max"] * width for ceiling in ceilings)
    return crossed and row["images_per_s_min"] / width > least


def _short(value: float) -> str:
    """Return a number with three digits and k or M: 12,345 as 12.3k."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
