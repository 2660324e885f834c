"""The README's tables of results, made from the committed rows; `make test` fails while they differ.

    python bench/readme.py

A table stands between ``<!-- rows NAME -->`` and ``<!-- end -->``, NAME being a file of bench/results.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import rows
from fastcifar.report.table import spread
from fastcifar.throughput.table import heat_name, pixels

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"(<!-- rows (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
Rows = list[dict[str, Any]]


def _table(header: list[str], body: list[list[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _under(table: str, found: Rows, packages: tuple[str, ...] = ("torch", "torchvision", "numba")) -> str:
    around = found[0]["environment"]
    dirty = {str(row["environment"]["commit"])[:8]: row["environment"]["dirty"] for row in found}
    commits = ", ".join(f"{commit}{' with other changes' if dirty[commit] else ''}" for commit in dirty)
    versions = ", ".join(f"{name} {around['versions'][name]}" for name in packages)
    return (
        f"{table}\n{around['cpu']}, {around['cores']} cores; Python {around['python']}, {versions}; commit {commits}.\n"
    )


def kernels(found: Rows) -> str:
    """Images/s by recipe: ours, torchvision's, the plain loop's."""
    speed = {(row["recipe"], row["dtype"], row["kernel"]): row for row in found}
    body = []
    for recipe, dtype in dict.fromkeys((row["recipe"], row["dtype"]) for row in found):
        ours, theirs = speed[recipe, dtype, "cpu"], speed[recipe, dtype, "torchvision, 1 thread"]
        plain = speed.get((recipe, dtype, "plain numba"))
        body.append(
            [
                f"{recipe}, {dtype}",
                f"{ours['images_per_s']:,.0f} ({ours['images_per_s_min']:,.0f}-{ours['images_per_s_max']:,.0f})",
                f"{ours['images_per_s'] / theirs['images_per_s']:.0f}×",
                f"{ours['images_per_s'] / plain['images_per_s']:.1f}×" if plain else "",
                f"{100 * ours['write_share']:.0f} %",
            ]
        )
    threads = speed[found[0]["recipe"], found[0]["dtype"], "cpu"]["threads"]
    header = [
        "recipe, output",
        f"images/s, {threads} threads: median (range)",
        "torchvision a sample, 1 thread",
        "plain numba loop",
        "of memory-write bandwidth",
    ]
    return _under(_table(header, body), found)


def parity(found: Rows) -> str:
    """The largest deviations by recipe."""
    body = [
        [
            row["recipe"],
            f"{row['draws']:,}",
            f"{row['reference_torchvision']:.1e}",
            f"{row['apart']:,} of {row['pixels']:,}",
            f"{row['cpu_reference_float32']:g}",
            f"{row['cpu_reference_bfloat16']:g}",
        ]
        for row in found
    ]
    header = [
        "recipe",
        "draws",
        "reference from torchvision",
        "pixels where rotation took the neighbour",
        "CPU kernel from reference, float32",
        "bfloat16",
    ]
    return _under(_table(header, body), found)


def training(found: Rows) -> str:
    """Seconds an epoch by loop."""
    fastest = next(row for row in found if row["loop"] == "fastcifar")
    body = [
        [
            row["loop"],
            f"{row['seconds']:.2f}",
            f"{row['images_per_s']:,.0f} ({row['images_per_s_min']:,.0f}-{row['images_per_s_max']:,.0f})",
            f"{row['seconds'] / fastest['seconds']:.1f}×",
            "" if row["stall"] is None else f"{100 * row['stall']:.2f} %",
        ]
        for row in found
    ]
    header = ["loop", "seconds an epoch", "images/s: median (range)", "fastcifar is faster by", "data stall"]
    return _under(_table(header, body), found)


def accuracy(found: Rows) -> str:
    """Validation accuracy by configuration, over seeds."""
    groups: dict[tuple[Any, ...], Rows] = {}
    for row in found:
        key = tuple(row[name] for name in ("experiment", "model", "recipe", "protocol", "precision"))
        groups.setdefault(key, []).append(row)
    body = [
        [
            f"exp {number}, {model}, {recipe}, {protocol}",
            ", ".join(str(row["seed"]) for row in group),
            spread([row["val_accuracy"] for row in group]),
            ", ".join(str(row["epochs"]) for row in group),
            f"{mean(row['seconds'] for row in group):,.0f}",
        ]
        for (number, model, recipe, protocol, _), group in groups.items()
    ]
    header = ["configuration", "seeds", "accuracy, %", "epochs", "seconds a run"]
    return _under(_table(header, body), found)


def throughput(found: Rows) -> str:
    """images/s of the pipelines by recipe, and what their pixels were found to be."""
    return _contest(found, "of memory-write bandwidth", "ceiling_share")


def feeding(found: Rows) -> str:
    """images/s of training by network and pipeline, and what the network could do more on replayed batches."""
    return _contest(found, "stall", "stall")


def _contest(found: Rows, title: str, share: str) -> str:
    """A line for each contestant; ``share`` is the key of the column, called ``title``, that is a share."""
    fastest: dict[str, float] = {}
    for row in found:
        fastest[heat_name(row)] = max(fastest.get(heat_name(row), 0), row["images_per_s"] or 0)
    body = []
    for row in found:
        line = [heat_name(row), row["pipeline"]]
        if not row["images_per_s"]:
            body.append([*line, *[""] * 6, pixels(row)])
            continue
        body.append(
            [
                *line,
                f"{row['images_per_s']:,.0f} ({row['images_per_s_min']:,.0f}-{row['images_per_s_max']:,.0f})",
                f"{100 * row['images_per_s'] / fastest[heat_name(row)]:.3g} %",
                "" if row[share] is None else f"{100 * row[share]:.1f} %",
                f"{1000 * row['gap_p99_seconds']:,.1f}" if row["gap_p99_seconds"] is not None else "",
                f"{row['cpu_seconds_per_million']:,.0f}",
                f"{row['peak_host_bytes'] / 1e6:,.0f}",
                pixels(row),
            ]
        )
    header = [
        "recipe, batch",
        "pipeline",
        "images/s: median (range)",
        "of the fastest",
        title,
        "99 % of gaps below, ms",
        "CPU core-seconds a million images",
        "memory, MB",
        "pixels",
    ]
    return _under(_table(header, body), found, ("torch", "torchvision", "numba", "ffcv", "dali"))


RENDERERS: dict[str, Callable[[Rows], str]] = {
    "kernels-cpu.jsonl": kernels,
    "parity-cpu.jsonl": parity,
    "training-cpu.jsonl": training,
    "accuracy-cpu.jsonl": accuracy,
    "throughput-cpu.jsonl": throughput,
    "feeding-cpu.jsonl": feeding,
}


def rendered(text: str) -> str:
    """The README's text with every table made anew from the rows."""
    return BLOCK.sub(lambda m: m[1] + RENDERERS[m[2]](rows.read(rows.RESULTS / m[2])) + m[3], text)


if __name__ == "__main__":
    README.write_text(rendered(README.read_text()))
