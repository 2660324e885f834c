"""What the numbers of a contest say, in one sentence, and what limits them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastcifar.system.quiet import BUSY_SHARE
from fastcifar.throughput.contestant import REPLAY
from fastcifar.throughput.table import NAMING, heats_of, named, shared

Row = Mapping[str, Any]
ENOUGH = 5
"""The turns of each contestant that a claim needs."""


class Clause(NamedTuple):
    """What a heat says. Clauses with the same key are put together: the first in full, the others in short."""

    key: tuple[str, ...]
    full: str
    short: str


def conclusion(rows: Sequence[Row]) -> str:
    """Return the sentence: for each heat, how many times as fast as the next one the fastest contestant is.

    Contestants whose ranges overlap with that of the fastest are called the same. What is not verified is marked.
    """
    common = shared(rows)
    found: dict[tuple[str, ...], list[Clause]] = {}
    for heat in heats_of(rows):
        clause = _clause(heat, _place(heat[0], common))
        found.setdefault(clause.key, []).append(clause)
    return "; ".join(_listed([same[0].full, *(clause.short for clause in same[1:])]) for same in found.values())


def _clause(heat: Sequence[Row], place: str) -> Clause:
    timed = [row for row in heat if row["images_per_s"] and row["pipeline"] != REPLAY]
    if not timed:
        return Clause(("none",), f"no contestant could be timed {place}", place)
    first, *others = sorted(timed, key=lambda row: -float(row["images_per_s"]))
    speed = f"{first['images_per_s']:,.0f} images/s {place}"
    if not others:
        return Clause(("alone", _name(first)), f"{_name(first)} alone could be timed: {speed}", speed)
    level = [row for row in others if row["images_per_s_max"] >= first["images_per_s_min"]]
    if level:
        names = tuple(sorted(map(_name, (first, *level))))
        return Clause(names, f"{_listed(names)} are the same within their spread {place}", place)
    ahead, behind = _name(first), _name(others[0])
    times = f"{first['images_per_s'] / others[0]['images_per_s']:.3g} times"
    return Clause(
        ("ahead", ahead, behind), f"{ahead} is {times} as fast as the next, {behind}, {place}", f"{times} {place}"
    )


def _place(row: Row, common: Mapping[str, Any]) -> str:
    """Return the place of a heat in the sentence, such as "in training cnn on basic (batch 64)"."""
    rest = named(row, {*common, *NAMING})
    place = f"in training {row['model']} on {row['recipe']}" if row["model"] else f"on {row['recipe']}"
    return f"{place} ({rest})" if rest else place


def _name(row: Row) -> str:
    return str(row["pipeline"]) + ("" if row["verified"] else " (not verified)")


def _listed(parts: Sequence[str]) -> str:
    *firsts, last = parts
    return f"{', '.join(firsts)} and {last}" if firsts else last


def caveats(rows: Sequence[Row]) -> list[str]:
    """Return sentences on what limits the numbers: few turns, the load by others, a lack of something that a contestant
    needs, and work that is not verified.
    """
    timed = [row for row in rows if row["images_per_s"]]
    found = []
    if turns := [row["repeats"] for row in timed if row["repeats"] < ENOUGH]:
        found.append(f"The fewest turns of a contestant are {min(turns)}; a claim needs at least {ENOUGH}.")
    loads = [row["load"] for row in timed if row.get("load")]
    most = max((load["busy_cores"] for load in loads if load.get("busy_cores") is not None), default=0)
    threads = max((row["threads"] for row in timed), default=1)
    if most > BUSY_SHARE * threads:
        averages = [load["load_average"] for load in loads if load.get("load_average") is not None]
        average = f" (load average {max(averages):.1f})" if averages else ""
        found.append(
            f"Other programs used up to {most:.1f} cores{average} while a contestant had {threads}: compare ratios, "
            "not absolute values, and repeat it on a quiet machine."
        )
    found += dict.fromkeys(f"{row['pipeline']}: {row['hindered']}." for row in timed if row.get("hindered"))
    unverified = dict.fromkeys(str(row["pipeline"]) for row in timed if not row["verified"])
    if unverified:
        found.append(f"What is not verified may do other work than the rest: {_listed(list(unverified))}.")
    return found
