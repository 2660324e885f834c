"""Two files of rows side by side: what changed by more than the noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.table import Table

from fastcifar.errors import UsageError
from fastcifar.throughput.table import heat_name, heat_of

Rows = Sequence[Mapping[str, Any]]
BASE = "resident"  # what the others of a heat are compared with, where it is there


@dataclass(frozen=True)
class Change:
    """How a contestant's images/s changed, and how its ratio to the base of its heat did.

    Each as (median, least, most): least and most are what the repeats of both files allow. ``ratio`` is made from the
    rounds, in which a contestant and the base took their turns soon after each other, so it depends less on how busy
    the machine was. None for the base itself.
    """

    heat: str
    pipeline: str
    old: float
    new: float
    speed: tuple[float, float, float]
    ratio: tuple[float, float, float] | None

    @staticmethod
    def exceeds_noise(change: tuple[float, float, float]) -> bool:
        """Whether no pair of repeats, one of each file, shows no change."""
        return not change[1] <= 1 <= change[2]


def changes(old: Rows, new: Rows) -> list[Change]:
    """The change of every contestant that both files have a speed of. Raises UsageError where there is none."""
    before, after = (_timed(rows) for rows in (old, new))
    shared = [key for key in before if key in after]
    if not shared:
        raise UsageError("the two files have no contestant in common that was timed in both")
    return [_change(before, after, key, _base(key, shared)) for key in shared]


def _timed(rows: Rows) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    return {(*heat_of(row), row["threads"], row["pipeline"]): row for row in rows if row["images_per_s"]}


def _base(key: tuple[Any, ...], shared: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The one of its heat that a contestant is compared with."""
    heat = [other for other in shared if other[:-1] == key[:-1]]
    return next((other for other in heat if other[-1] == BASE), heat[0])


def _change(before: Any, after: Any, key: tuple[Any, ...], base: tuple[Any, ...]) -> Change:
    old, new = before[key], after[key]
    ratio = None
    if key != base:
        rounds = [
            [mine / best for mine, best in zip(rows[key]["turns"], rows[base]["turns"], strict=False)]
            for rows in (before, after)
        ]
        ratio = _quotient(rounds[1], rounds[0])
    speed = _quotient(new["turns"], old["turns"])
    return Change(heat_name(old), old["pipeline"], old["images_per_s"], new["images_per_s"], speed, ratio)


def _quotient(new: Sequence[float], old: Sequence[float]) -> tuple[float, float, float]:
    return median(new) / median(old), min(new) / max(old), max(new) / min(old)


def widest(found: Sequence[Change]) -> float:
    """By how much the ratio of any two contestants of a heat changed at most: 0.1 is ten percent."""
    heats: dict[str, list[float]] = {}
    for change in found:
        heats.setdefault(change.heat, []).append(change.ratio[0] if change.ratio else 1.0)
    return max(max(ratios) / min(ratios) - 1 for ratios in heats.values())


def comparison(found: Sequence[Change]) -> Table:
    """The changes as a table, for a terminal."""
    table = Table(title="new / old, with what the repeats allow; in bold where that excludes 1", title_justify="left")
    table.add_column("contestant", no_wrap=True)
    for name in ("old images/s", "new images/s", "new / old", "noise", f"to {BASE}: new / old", "noise"):
        table.add_column(name, justify="right")
    heat = None
    for change in found:
        if heat not in (None, heat := change.heat):
            table.add_section()
        cells = [f"{change.heat}: {change.pipeline}", f"{change.old:,.0f}", f"{change.new:,.0f}"]
        for quotient in (change.speed, change.ratio):
            if quotient is None:
                cells += ["", ""]
                continue
            middle, least, most = quotient
            mark = "[bold]{}[/]" if Change.exceeds_noise(quotient) else "{}"
            cells += [mark.format(f"{middle:.3f}"), f"{least:.3f}-{most:.3f}"]
        table.add_row(*cells)
    return table
