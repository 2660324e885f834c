"""Compare two files of rows, and show which speeds changed by more than the noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from fastcifar.errors import UsageError
from fastcifar.show.columns import Column, Fitted
from fastcifar.throughput.table import heat_name, heat_of

Rows = Sequence[Mapping[str, Any]]
BASE = "resident"  # the pipeline to which the others of a heat are compared; without it, the first of the heat


@dataclass(frozen=True)
class Change:
    """The change of a contestant between two files.

    heat: its name. old, new: images/s. speed: the change, new / old, of the images/s. ratio: the change of the ratio
    between its images/s and those of the base of its heat; None for the base itself. speed and ratio are (quotient of
    medians, least, most), where least and most are quotients of single repeats.

    ``ratio`` is computed within rounds, where contestant and base take their turns shortly after each other. It thus
    depends less on the load of the machine than ``speed``.
    """

    heat: str
    pipeline: str
    old: float
    new: float
    speed: tuple[float, float, float]
    ratio: tuple[float, float, float] | None

    @staticmethod
    def exceeds_noise(change: tuple[float, float, float]) -> bool:
        """Return whether the range of a change excludes 1, so that the repeats of the two files do not overlap."""
        return not change[1] <= 1 <= change[2]


def changes(old: Rows, new: Rows) -> list[Change]:
    """Return the change of every contestant with a speed in both files. Raises UsageError where there is none."""
    before, after = (_timed(rows) for rows in (old, new))
    shared = [key for key in before if key in after]
    if not shared:
        raise UsageError("the two files have no contestant in common with a speed; compare rows of the same work")
    return [_change(before, after, key, _base(key, shared)) for key in shared]


def _timed(rows: Rows) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    return {(*heat_of(row), row["threads"], row["pipeline"]): row for row in rows if row["images_per_s"]}


def _base(key: tuple[Any, ...], shared: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Return the key of the base of a contestant's heat."""
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
    """Return the largest change of the ratio of two contestants of a heat; 0.1 means 10 %."""
    heats: dict[str, list[float]] = {}
    for change in found:
        heats.setdefault(change.heat, []).append(change.ratio[0] if change.ratio else 1.0)
    return max(max(ratios) / min(ratios) - 1 for ratios in heats.values())


def comparison(found: Sequence[Change]) -> list[Fitted]:
    """Return the changes as tables for a terminal, one for each heat."""
    heats: dict[str, list[Change]] = {}
    for change in found:
        heats.setdefault(change.heat, []).append(change)
    return [Fitted(_columns(changes), heat, more="--json shows them") for heat, changes in heats.items()]


def _columns(found: Sequence[Change]) -> list[Column]:
    ratios = [change.ratio for change in found]
    return [
        Column("pipeline", [change.pipeline for change in found], number=False),
        Column("old images/s", [f"{change.old:,.0f}" for change in found], rank=2),
        Column("new images/s", [f"{change.new:,.0f}" for change in found]),
        Column("new / old", [f"{change.speed[0]:.3f}" for change in found]),
        Column("range", [_range(change.speed) for change in found], rank=1),
        Column("beyond noise", [_beyond(change.speed) for change in found], number=False),
        Column(f"to {BASE}: new / old", ["" if ratio is None else f"{ratio[0]:.3f}" for ratio in ratios], rank=3),
        Column("its range", [_range(ratio) for ratio in ratios], rank=4),
        Column("beyond noise", [_beyond(ratio) for ratio in ratios], number=False, rank=5),
    ]


def _range(change: tuple[float, float, float] | None) -> str:
    return "" if change is None else f"{change[1]:.3f}-{change[2]:.3f}"


def _beyond(change: tuple[float, float, float] | None) -> str:
    return "" if change is None else "yes" if Change.exceeds_noise(change) else "no"
