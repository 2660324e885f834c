"""A table of rows, for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

Rows = Sequence[Mapping[str, Any]]


def results(rows: Rows) -> Table:
    """Return the rows as a table for a terminal, with one line for each row and `title` above."""
    table = Table(title=title(rows), title_justify="left", caption=CAPTION, caption_justify="left")
    table.add_column("pipeline", no_wrap=True)
    columns = ("images/s", "range", "of ceiling", "stall", "p99 gap, ms", "first, s", "CPU s/M", "MB")
    for name in columns:
        table.add_column(name, justify="right")
    table.add_column("pixels", overflow="fold", ratio=1)
    heat = None
    for row in rows:
        if heat not in (None, heat := heat_of(row)):
            table.add_section()
        table.add_row(*_line(row))
    return table


CAPTION = (
    "images/s: median of the turns, least to most. first: seconds for opening the pipeline and for its first batch, "
    "outside the turns. CPU s/M: CPU seconds for a million images. MB: peak memory of the process and its workers."
)


def title(rows: Rows) -> str:
    """Return the numbers of threads of the rows, as a title."""
    threads = sorted({row["threads"] for row in rows})
    return f"{', '.join(map(str, threads))} threads for each contestant"


def heat_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the settings that all rows of a heat share: model, recipe, batch size, dtype, device."""
    return tuple(row[key] for key in ("model", "recipe", "batch_size", "dtype", "device"))


def heat_name(row: Mapping[str, Any]) -> str:
    """Return the name of the heat: its settings, separated by commas."""
    model, recipe, batch_size, dtype, device = heat_of(row)
    return ", ".join(part for part in (model, recipe, f"batch {batch_size}", dtype, device) if part)


def pixels(row: Mapping[str, Any]) -> str:
    """Return a phrase on the row's verification: a reason, or how far its pixels are from the reference's."""
    if row["reason"]:
        return ("NOT VERIFIED: " if row["images_per_s"] else "") + row["reason"]
    if not row["verified"]:
        return ""
    if not row["max_abs_dev"]:
        return "equal"
    if not row["pixels_apart"]:
        return f"equal to rounding: {row['max_abs_dev']:.1g} at most"
    return f"{100 * row['pixels_apart']:.2g} % differ, by up to {row['max_abs_dev']:.2g}"


def _line(row: Mapping[str, Any]) -> list[str]:
    def shown(key: str, form: str, scale: float = 1) -> str:
        return "" if row[key] is None else format(row[key] * scale, form)

    first = [row[key] for key in ("build_seconds", "first_batch_seconds") if row[key] is not None]
    return [
        f"{heat_name(row)}: {row['pipeline']}",
        shown("images_per_s", ",.0f"),
        f"{row['images_per_s_min']:,.0f}-{row['images_per_s_max']:,.0f}" if row["images_per_s"] else "",
        shown("ceiling_share", ".1%"),
        shown("stall", ".1%"),
        shown("gap_p99_seconds", ",.1f", 1000),
        f"{sum(first):,.1f}" if first else "",
        shown("cpu_seconds_per_million", ",.1f"),
        shown("peak_host_bytes", ",.0f", 1e-6),
        pixels(row),
    ]
