"""The plan of a grid as tables for a terminal: its experiments, and its shapes."""

from collections.abc import Sequence

from fastcifar.grid.packing import Pack
from fastcifar.packs.choice import Measured
from fastcifar.show.columns import Column, Fitted
from fastcifar.show.text import duration

Row = tuple[Pack, int, Measured, tuple[float, float]]
"""The runs of a shape as one pack, its number of packs, its measurements, and the least and greatest seconds."""
CAPTION = "at most: if no run stops early; at least: if all stop as early as they may"


def plan_table(rows: Sequence[Row], sources: Sequence[str] | None = None) -> Fitted:
    """Return the table of a plan with one line for each shape.

    sources: where the speed of each shape comes from, if its ways were not compared.
    """
    packs, shapes = [row[0] for row in rows], [row[0].shape for row in rows]
    measured, spans = [row[2] for row in rows], [row[3] for row in rows]
    columns = [
        Column("network", [shape.model for shape in shapes], number=False),
        Column("experiment", [str(shape.experiment) for shape in shapes], rank=3),
        Column("protocol", [shape.protocol for shape in shapes], number=False),
        Column("batch", [f"{shape.batch_size:,}" for shape in shapes]),
        Column("precision", [shape.precision for shape in shapes], number=False, rank=4),
        Column("runs", [f"{len(pack.specs):,}" for pack in packs]),
        Column("packs", [f"{row[1]:,}" for row in rows], rank=2),
        *([Column("speed", sources, number=False, rank=1)] if sources else
          [Column("way", [each.way for each in measured], number=False, rank=1)]),
        Column("images/s", [_rate(each.rate) for each in measured]),
        *([] if sources else [
            Column("images/s of each way", [_ways(each) for each in measured], number=False, rank=7),
            Column("MiB a run", [f"{each.run_bytes / 2**20:,.0f}" for each in measured], rank=6),
        ]),
        Column("at least", [duration(low) for low, _ in spans], rank=5),
        Column("at most", [duration(high) for _, high in spans]),
    ]  # fmt: skip
    return Fitted(columns, "Plan", CAPTION, "--wide shows them")


def experiments_table(rows: Sequence[Row]) -> Fitted:
    """Return the table of a plan with one line for each experiment under each protocol, and their sum."""
    totals: dict[tuple[str, str], list[float]] = {}
    for pack, _, _, span in rows:
        for name in ((str(pack.shape.experiment), pack.shape.protocol), ("all", "")):
            total = totals.setdefault(name, [0, 0.0, 0.0])
            for n, value in enumerate((len(pack.specs), *span)):
                total[n] += value
    names = sorted(totals)  # "all" comes after the digits
    columns = [
        Column("experiment", [number for number, _ in names]),
        Column("protocol", [protocol for _, protocol in names], number=False),
        Column("runs to train", [f"{totals[name][0]:,.0f}" for name in names]),
        Column("at least", [duration(totals[name][1]) for name in names]),
        Column("at most", [duration(totals[name][2]) for name in names]),
    ]
    return Fitted(columns, "Experiments")


def _ways(measured: Measured) -> str:
    """Return the images/s of all ways, the chosen one first."""
    rates = sorted(measured.images_per_s.items(), key=lambda pair: pair[0] != measured.way)
    return ", ".join(f"{way} {_rate(rate)}" for way, rate in rates)


def _rate(images_per_s: float) -> str:
    return f"{images_per_s:,.0f}" if images_per_s >= 10 else f"{images_per_s:.2g}"
