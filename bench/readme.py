"""The tables of results in README.md and others, made from the committed rows; a test fails if they differ.

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

from bench.lib import rows
from bench.packs import shares
from bench.tables import compiled, throughput
from fastcifar.show.markdown import Rows, table, under
from fastcifar.show.text import spread

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- rows (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


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
    return under(table(header, body), found)


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
    return under(table(header, body), found)


def training(found: Rows) -> str:
    """Seconds an epoch by loop."""
    fastest = min((row for row in found if row["loop"].startswith("fastcifar")), key=lambda row: row["seconds"])
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
    return under(table(header, body), found)


def packs(found: Rows) -> str:
    """images/s of all runs of a pack together, by network and way."""
    body = [
        [
            f"{row['model']}, {row['recipe']}, {row['dtype']}",
            f"**{row['loop']}**" if row["picked"] else row["loop"],
            f"{row['images_per_s']:,.0f} ({row['images_per_s_min']:,.0f}-{row['images_per_s_max']:,.0f})",
            *shares(row, found),
        ]
        for row in found
    ]
    header = ["network, recipe, precision", "way", "images/s, all runs: median (range)", "of serial's time a run"]
    return under(table([*header, "of the plain loop's"], body), found)


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
    return under(table(header, body), found)


def transfer(found: Rows) -> str:
    """Validation accuracy by the images there are, start and way to fine-tune, over seeds."""
    groups: dict[tuple[int, str, str], Rows] = {}
    for row in found:
        groups.setdefault((row["images"], row["start"], row["tune"]), []).append(row)
    body = [
        [
            f"{images:,} images: {start}, {tune}",
            f"{group[0]['validation_images']:,}",
            spread([row["val_accuracy"] for row in group]),
            f"{group[0]['parameters']:,}",
            f"{group[0]['lr']:g}",
        ]
        for (images, start, tune), group in groups.items()
    ]
    header = ["start, way", "validated on", "accuracy, %", "trained weights", "lr"]
    return under(table(header, body), found)


def finetuning(found: Rows) -> str:
    """Seconds an epoch by loop, and what cached features save."""
    loops = [row for row in found if "images_per_s" in row]
    fastest = min(row["seconds"] for row in loops if row["loop"].startswith("fastcifar"))
    body = [
        [
            row["loop"],
            f"{row['seconds']:.2f}",
            f"{row['images_per_s']:,.0f} ({row['images_per_s_min']:,.0f}-{row['images_per_s_max']:,.0f})",
            f"{row['seconds'] / fastest:.2f}×",
        ]
        for row in loops
    ]
    (heads,) = (row for row in found if "uncached_seconds" in row)
    saved = heads["uncached_seconds"] / heads["seconds"]
    text = table(["loop", "seconds an epoch", "images/s: median (range)", "of the fastest's time"], body)
    text += (
        f"\nHeads of three seeds, {heads['epochs']} epochs in all, on {heads['images'] * 5 // 4:,} images: "
        f"{heads['seconds']:.1f} s with cached features, computing them included; without, the forward passes alone "
        f"would take {heads['uncached_seconds']:,.0f} s ({saved:.0f}×).\n"
    )
    return under(text, found)


# page: what renders which file's rows, in the page's order
PAGES: dict[Path, dict[str, Callable[[Rows], str]]] = {
    ROOT / "README.md": {
        "throughput-cpu.jsonl": throughput.throughput,
        "feeding-cpu.jsonl": throughput.feeding,
        "kernels-cpu.jsonl": kernels,
        "parity-cpu.jsonl": parity,
        "training-cpu.jsonl": training,
        "packs-cpu.jsonl": packs,
        "packs-cpu-avx2.jsonl": packs,
        "accuracy-cpu.jsonl": accuracy,
        "finetuning-cpu.jsonl": finetuning,
        "transfer-cpu.jsonl": transfer,
    },
    ROOT / "kernels" / "README.md": {
        "compiled-sm90-triton36.jsonl": compiled.compiled,
        "compiled-sm90.jsonl": compiled.compiled_candidates,
    },
    ROOT / "fastcifar" / "packs" / "README.md": {"arithmetic-h100.jsonl": compiled.arithmetic},
}


def rendered(page: Path) -> str:
    """The page's text with every table made anew from the rows."""
    renderers = PAGES[page]
    return BLOCK.sub(lambda m: m[1] + renderers[m[2]](rows.read(rows.RESULTS / m[2])) + m[3], page.read_text())


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(rendered(page))
