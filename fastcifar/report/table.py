"""Results as a table: a row a configuration, accuracy as mean ± standard deviation over seeds."""

from collections.abc import Mapping, Sequence
from statistics import mean, median, stdev
from typing import Any

from rich.table import Table


def results_table(configurations: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """configurations: of each label, its seeds' summaries (see train.train)."""
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


def spread(accuracies: Sequence[float | None]) -> str:
    """Accuracies in [0, 1] as "67.31 ± 0.42" percent; says how many of them there are not (diverged runs)."""
    known = [100 * accuracy for accuracy in accuracies if accuracy is not None]
    lost = f" ({len(accuracies) - len(known)} diverged)" if len(known) < len(accuracies) else ""
    if not known:
        return f"none{lost}"
    return f"{mean(known):.2f}" + (f" ± {stdev(known):.2f}" if len(known) > 1 else "") + lost


def _each(summaries: Sequence[Mapping[str, Any]], key: str) -> str:
    return ", ".join("none" if summary[key] is None else str(summary[key]) for summary in summaries)
