"""The answer to the question whether one's own loader is the bottleneck, in one sentence for each heat."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastcifar.throughput.contestant import REPLAY
from fastcifar.throughput.table import heat_name, heat_of

Row = Mapping[str, Any]

BOTTLENECK = 0.05
"""The share of training time, from which a loader that training waits for is called the bottleneck."""
OURS = "resident"


def answers(rows: Sequence[Row], loaders: Sequence[str]) -> list[str]:
    """Return a sentence for each loader that was timed in a heat: whether training waits for it, and its images/s."""
    return [
        f"{heat_name(row)}: {_in_training(row, rows) if row['model'] else _alone(row, rows)}"
        for row in rows
        if row["pipeline"] in loaders and row["images_per_s"]
    ]


def failures(rows: Sequence[Row], loaders: Sequence[str]) -> list[str]:
    """Return a sentence for each loader that could not be timed in a heat."""
    return [
        f"{heat_name(row)}: {row['pipeline']} was not timed: {row['reason']}"
        for row in rows
        if row["pipeline"] in loaders and not row["images_per_s"]
    ]


def _in_training(row: Row, rows: Sequence[Row]) -> str:
    name, model, speed = row["pipeline"], row["model"], row["images_per_s"]
    ready, ours = _beside(row, rows, REPLAY), _beside(row, rows, OURS)
    speeds = f"{model} trains on {speed:,.0f} images/s"
    speeds += f", with {OURS} on {ours['images_per_s']:,.0f}" if ours else ""
    if ready is None or row["stall"] is None:
        return f"whether {name} is the bottleneck is not known, as ready batches could not be timed; {speeds}"
    speeds += f", and with ready batches on {ready['images_per_s']:,.0f}"
    stall = max(0.0, row["stall"])
    if stall < BOTTLENECK:
        return f"{name} is not the bottleneck: training waits for it {stall:.1%} of the time; {speeds}"
    if row["images_per_s_max"] >= ready["images_per_s_min"]:
        return (
            f"whether {name} is the bottleneck is not clear: training seems to wait for it {stall:.1%} of the time, "
            f"but the turns vary by more; {speeds}; repeat it with more --repeats on a quiet machine"
        )
    return f"{name} is the bottleneck: training waits for it {stall:.1%} of the time; {speeds}"


def _alone(row: Row, rows: Sequence[Row]) -> str:
    name, speed, ours = row["pipeline"], row["images_per_s"], _beside(row, rows, OURS)
    beside = ""
    if ours:
        ratio = speed / ours["images_per_s"]
        share = f"1/{1 / ratio:.3g} of" if ratio < 1 else f"{ratio:.3g} times"
        beside = f", {share} {OURS}'s {ours['images_per_s']:,.0f}"
    return (
        f"{name} makes {speed:,.0f} images/s{beside}; whether it is the bottleneck depends on the network: add "
        "--models cnn or --models resnet18"
    )


def _beside(row: Row, rows: Sequence[Row], pipeline: str) -> Row | None:
    """Return the row of a pipeline in the same heat; None where it has no speed."""
    same = (other for other in rows if other["pipeline"] == pipeline and heat_of(other) == heat_of(row))
    return next((other for other in same if other["images_per_s"]), None)
