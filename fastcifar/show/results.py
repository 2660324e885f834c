"""The table of results: one row per configuration, with the accuracy as mean ± standard deviation over seeds."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich.table import Table

from fastcifar.show.text import spread


def results_table(configurations: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """Return the table. configurations: for each label, the summaries of its seeds (see `training.loop.train`)."""
    table = Table(title="Validation accuracy of the kept weights: mean ± standard deviation (n - 1) over seeds")
    table.add_column("configuration", overflow="fold")
    for column in ("seeds", "accuracy, %", "kept epoch", "epochs", "parameters", "images/s", "stall, %", "seconds"):
        table.add_column(column, justify="right")
    for label, summaries in configurations.items():
        table.add_row(
            label,
            str(len(summaries)),
            spread([s["val_accuracy"] for s in summaries]),
            _each(summaries, "kept_epoch"),
            _each(summaries, "epochs"),
            f"{summaries[0]['parameters']:,}",
            f"{median(s['images_per_s'] for s in summaries):,.0f}",
            f"{100 * median(s['stall'] for s in summaries):.2f}",
            f"{sum(s['seconds'] for s in summaries):,.1f}",
        )
    return table


def _each(summaries: Sequence[Mapping[str, Any]], key: str) -> str:
    return ", ".join("none" if summary[key] is None else str(summary[key]) for summary in summaries)
