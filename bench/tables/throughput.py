"""Tables of pipelines, alone and while a network trains on their batches."""

from collections.abc import Sequence
from typing import Any

from fastcifar.show.markdown import Rows, table, under
from fastcifar.throughput.contestant import REPLAY
from fastcifar.throughput.table import heat_of, pixels

PACKAGES = ("torch", "torchvision", "numba", "ffcv", "dali")
BASE, CLOSER_LOOK = "resident", "erasing"  # the pipeline whose speed is 100 %; the recipe whose rows are shown in full


def throughput(found: Rows) -> str:
    """Return the table of images/s of each pipeline under each recipe, and the full rows of one recipe."""
    closer = [row for row in found if row["recipe"] == CLOSER_LOOK and row["dtype"] == "float32"] or found
    header = ["pipeline", "range, images/s", "99 % of gaps below, ms", "until the first batch, s"]
    header += ["CPU core-seconds a million images", "memory, MB", "pixels"]
    body = [[row["pipeline"], *_details(row), pixels(row)] for row in closer]
    caption = f"\nThe rows of {_title(closer[0])}, more closely:\n\n"
    return under(_speeds(found) + caption + table(header, body), found, PACKAGES)


def feeding(found: Rows) -> str:
    """Return the table of training speed by network and pipeline, with the time that replayed batches would save."""
    body = []
    for row in found:
        stall = "" if row["stall"] is None else f"{100 * row['stall']:.1f} %"
        body.append([row["model"], row["pipeline"], _speed(row, found), stall, pixels(row)])
    header = ["network", "pipeline", f"images/s (of {REPLAY})", "data stall", "pixels"]
    return under(table(header, body), found, PACKAGES)


def _speeds(found: Rows) -> str:
    """Return a line for each pipeline and a column for each heat; below them, why pipelines have no speed."""
    heats = list(dict.fromkeys(heat_of(row) for row in found))
    columns = {heat: [row for row in found if heat_of(row) == heat] for heat in heats}
    names = list(dict.fromkeys(row["pipeline"] for row in found))
    cells = {(row["pipeline"], heat_of(row)): _speed(row, found) for row in found}
    body = [[name, *(cells.get((name, heat), "") for heat in heats)] for name in names]
    body.append(["memory could take", *(_ceiling(columns[heat]) for heat in heats)])
    reasons: dict[str, list[str]] = {}
    for row in found:
        if not row["images_per_s"]:
            reasons.setdefault(f"{row['pipeline']}: {pixels(row)}", []).append(_title(row))
    notes = "".join(f"\n- {reason} ({'; '.join(titles)})" for reason, titles in reasons.items())
    return table(["pipeline", *(_title(columns[heat][0]) for heat in heats)], body) + (
        f"\nNo speed, and why:\n{notes}\n" if notes else ""
    )


def _title(row: dict[str, Any]) -> str:
    return f"{row['recipe']}, {row['dtype']}"


def _speed(row: dict[str, Any], among: Sequence[dict[str, Any]]) -> str:
    """Return images/s, with the share of the base's speed in the same heat."""
    if not row["images_per_s"]:
        return "none"
    mark = "" if row["verified"] else " NOT VERIFIED"
    name = REPLAY if row["model"] else BASE
    base = next((r for r in among if r["pipeline"] == name and heat_of(r) == heat_of(row)), None)
    share = f" ({100 * row['images_per_s'] / base['images_per_s']:.3g} %)" if base and base["images_per_s"] else ""
    return f"{row['images_per_s']:,.0f}{share}{mark}"


def _ceiling(heat: Sequence[dict[str, Any]]) -> str:
    return next((f"{row['ceiling_images_per_s']:,.0f}" for row in heat if row["ceiling_images_per_s"]), "")


def _details(row: dict[str, Any]) -> list[str]:
    if not row["images_per_s"]:
        return [""] * 5
    gap = row["gap_p99_seconds"]
    return [
        f"{row['images_per_s_min']:,.0f}-{row['images_per_s_max']:,.0f}",
        "" if gap is None else f"{1000 * gap:,.1f}",
        f"{(row['build_seconds'] or 0) + row['first_batch_seconds']:.1f}",
        f"{row['cpu_seconds_per_million']:,.0f}",
        f"{row['peak_host_bytes'] / 1e6:,.0f}",
    ]
