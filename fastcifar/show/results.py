"""The table of results: one row per configuration, with the accuracy as mean ± standard deviation over seeds."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from fastcifar.show.columns import Column, Fitted
from fastcifar.show.text import spread


def results_table(configurations: Mapping[str, Sequence[Mapping[str, Any]]]) -> Fitted:
    """Return the table. configurations: for each label, the summaries of its seeds (see `training.loop.train`)."""
    seeds = list(configurations.values())
    columns = [
        Column("configuration", list(configurations), number=False),
        Column("seeds", [str(len(summaries)) for summaries in seeds]),
        Column("accuracy, %", [spread([s["val_accuracy"] for s in summaries]) for summaries in seeds]),
        Column("kept epoch", [_each(summaries, "kept_epoch") for summaries in seeds], rank=2),
        Column("epochs", [_each(summaries, "epochs") for summaries in seeds], rank=1),
        Column("parameters", [f"{summaries[0]['parameters']:,}" for summaries in seeds], rank=4),
        Column("images/s", [f"{median(s['images_per_s'] for s in summaries):,.0f}" for summaries in seeds]),
        Column("stall, %", [f"{100 * median(s['stall'] for s in summaries):.2f}" for summaries in seeds], rank=5),
        Column("seconds", [f"{sum(s['seconds'] for s in summaries):,.1f}" for summaries in seeds], rank=3),
    ]
    return Fitted(
        columns,
        "Validation accuracy of the kept weights",
        "accuracy: mean ± standard deviation (n - 1) over seeds",
        "--wide or --json shows them",
    )


def _each(summaries: Sequence[Mapping[str, Any]], key: str) -> str:
    """Return the values of the seeds; the least and the greatest one where there are more than three."""
    values = [summary[key] for summary in summaries]
    if len(values) > 3 and None not in values:
        return f"{min(values)}-{max(values)}"
    return ", ".join("none" if value is None else str(value) for value in values)
