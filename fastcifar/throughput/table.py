"""Tables of rows for a terminal, one for each heat, and the sentences below them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult

from fastcifar.show.columns import Column, Fitted

Row = Mapping[str, Any]
Rows = Sequence[Row]
SETTINGS = ("model", "recipe", "batch_size", "dtype", "device", "threads")
"""The keys of the settings that the contestants of a heat share."""
NAMING = ("model", "recipe")
"""The settings that a heat is named by in any case."""
NONE = "none"
"""The cell of a contestant without a speed."""


def heat_of(row: Row) -> tuple[Any, ...]:
    """Return the settings that all rows of a heat share: model, recipe, batch size, dtype, device."""
    return tuple(row[key] for key in ("model", "recipe", "batch_size", "dtype", "device"))


def heat_name(row: Row) -> str:
    """Return the name of the heat: its settings, separated by commas."""
    model, recipe, batch_size, dtype, device = heat_of(row)
    return ", ".join(part for part in (model, recipe, f"batch {batch_size}", dtype, device) if part)


def heats_of(rows: Iterable[Row]) -> list[list[Row]]:
    """Return the rows by heat, in their order. A contestant that comes again begins a heat of its own."""
    heats: list[list[Row]] = []
    for row in rows:
        same = heats and heat_of(heats[-1][0]) == heat_of(row)
        if not same or any(other["pipeline"] == row["pipeline"] for other in heats[-1]):
            heats.append([])
        heats[-1].append(row)
    return heats


def shared(rows: Rows) -> dict[str, Any]:
    """Return the settings that are equal in all rows, by their keys; those of NAMING are left out."""
    return {
        key: rows[0][key] for key in SETTINGS if key not in NAMING and len({str(row.get(key)) for row in rows}) == 1
    }


def named(row: Row, common: Iterable[str]) -> str:
    """Return the name of a heat without the settings in ``common``, such as "erasing" or "basic, batch 64"."""
    return phrase({key: row[key] for key in SETTINGS if key not in common})


def phrase(settings: Mapping[str, Any]) -> str:
    """Return settings, by their keys, as a phrase such as "basic, batch 64, 2 threads"."""
    units = {"batch_size": "batch {}", "threads": "{} threads"}
    return ", ".join(units.get(key, "{}").format(value) for key, value in settings.items() if value is not None)


@dataclass(frozen=True)
class HeatTable:
    """The table of a heat, with as many columns as its console has room for."""

    rows: Rows
    title: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Fitted(self.columns(), self.title, marks=dict.fromkeys(self._fastest(), "bold"))
        yield Fitted(table.fitting(options.max_width), table.title, marks=table.marks)

    def _fastest(self) -> list[str]:
        speeds = [row["images_per_s"] or 0 for row in self.rows]
        return [self._names()[speeds.index(max(speeds))]] if any(speeds) else []

    def _names(self) -> list[str]:
        """Return the contestants' names, those of loaders without their folders unless two would be the same."""
        full = [str(row["pipeline"]) for row in self.rows]
        short = [name.rpartition("/")[2] for name in full]
        return short if len(set(short)) == len(full) else full

    def columns(self) -> list[Column]:
        """Return the columns. Those of a rank above 0 are left out where they do not fit, the largest rank first."""
        best = max((row["images_per_s"] for row in self.rows if row["images_per_s"]), default=None)
        stalls = any(row["stall"] is not None for row in self.rows)
        columns = [
            Column("pipeline", self._names(), number=False),
            Column("images/s", [_shown(row, "images_per_s", ",.0f") or NONE for row in self.rows]),
            Column("of the fastest", [_shown(row, "images_per_s", ".1%", best and 1 / best) for row in self.rows]),
            *([Column("stall", [_shown(row, "stall", ".1%") for row in self.rows])] if stalls else []),
            Column("range of images/s", [_range(row) for row in self.rows], rank=1),
            Column("first batch, s", [_first(row) for row in self.rows], rank=2),
            Column("MB", [_shown(row, "peak_host_bytes", ",.0f", 1e-6) for row in self.rows], rank=3),
            Column("CPU s a million", [_shown(row, "cpu_seconds_per_million", ",.1f") for row in self.rows], rank=4),
            Column("99 % of gaps, ms", [_shown(row, "gap_p99_seconds", ",.1f", 1e3) for row in self.rows], rank=5),
            Column("of memory's speed", [_shown(row, "ceiling_share", ".1%") for row in self.rows], rank=6),
            Column("others' cores", [_load(row) for row in self.rows], rank=7),
            Column("pixels", [verdict(row) for row in self.rows], number=False),
        ]
        # a column without any value would only take room
        return [column for column in columns if column.rank == 0 or any(column.cells)]


CAPTION = "images/s: the median of the turns. pixels: compared with the reference in the same run."
EXPLAINED = (
    "range: the slowest and the fastest turn. stall: the share of the time that training waits for batches. first "
    "batch: the seconds for opening the pipeline and for its first batch, outside the turns. MB: the peak memory of "
    "the process and its workers. CPU s a million: the CPU seconds for a million images. 99 % of gaps: so many of the "
    "waits between two batches are shorter. of memory's speed: the share of the images/s at which memory alone could "
    "take the batches. others' cores: the cores that other programs used before the turns."
)


def caption(common: Mapping[str, Any], wide: bool) -> str:
    """Return the text below all tables: the units, and the settings that all heats share. wide: explain each column."""
    text = f"{CAPTION} All: {phrase(common)}." if common else CAPTION
    return f"{text} {EXPLAINED}" if wide else f"{text} More columns: --wide."


def verdict(row: Row) -> str:
    """Return the result of the verification in a few words, for a cell."""
    if not row["images_per_s"]:
        return "see below" if row["reason"] else ""
    if not row["verified"]:
        return "NOT VERIFIED"
    if not row["max_abs_dev"]:
        return "equal"
    return f"{100 * row['pixels_apart']:.2g} % differ" if row["pixels_apart"] else "equal to rounding"


def pixels(row: Row) -> str:
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


def reasons(rows: Rows) -> list[str]:
    """Return a sentence for each contestant without a speed or not verified; equal ones of several heats are one."""
    common, found = shared(rows), dict[tuple[str, str, str], list[str]]()
    for row in rows:
        if row["reason"]:
            state = "is not verified" if row["images_per_s"] else "has no speed"
            found.setdefault((row["pipeline"], state, row["reason"]), []).append(named(row, common))
    return [
        f"{pipeline} {state} ({'; '.join(dict.fromkeys(places))}): {reason}."
        for (pipeline, state, reason), places in found.items()
    ]


def _shown(row: Row, key: str, form: str, scale: float | None = 1) -> str:
    return "" if row[key] is None or scale is None else format(row[key] * scale, form)


def _range(row: Row) -> str:
    return f"{row['images_per_s_min']:,.0f}-{row['images_per_s_max']:,.0f}" if row["images_per_s"] else ""


def _first(row: Row) -> str:
    seconds = [row[key] for key in ("build_seconds", "first_batch_seconds") if row[key] is not None]
    return f"{sum(seconds):,.1f}" if seconds else ""


def _load(row: Row) -> str:
    """Return the cores that others used. Rows of before this was measured have no "load"."""
    busy = (row.get("load") or {}).get("busy_cores")
    return "" if busy is None else f"{busy:.1f}"
