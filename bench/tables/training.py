"""Tables of training: loops, packs of runs, accuracies, fine-tuning and transfer."""

from collections.abc import Mapping
from statistics import mean
from typing import Any

from bench.packs import shares
from bench.tables.cells import ranged
from fastcifar.show.markdown import Rows, table, under
from fastcifar.show.text import counted, spread


def training(found: Rows) -> str:
    """Return the table of seconds an epoch by loop."""
    fastest = min((row for row in found if row["loop"].startswith("fastcifar")), key=lambda row: row["seconds"])
    body = [
        [
            row["loop"],
            row["dtype"],
            f"{row['seconds']:.2f}",
            ranged(row),
            f"{row['seconds'] / fastest['seconds']:.1f}×",
            "" if row["stall"] is None else f"{100 * row['stall']:.2f} %",
        ]
        for row in found
    ]
    header = ["loop", "precision", "seconds an epoch", "images/s: median (range)", "fastcifar is faster by"]
    return under(table([*header, "data stall"], body), found)


def packs(found: Rows) -> str:
    """Return the table of images/s of all runs of a pack together, by network and way."""
    body = [
        [
            f"{row['model']}, {row['recipe']}, {row['dtype']}",
            f"**{row['loop']}**" if row["picked"] else row["loop"],
            ranged(row),
            *shares(row, found),
        ]
        for row in found
    ]
    header = ["network, recipe, precision", "way", "images/s, all runs: median (range)", "of serial's time a run"]
    return under(table([*header, "of the plain loop's"], body), found)


def accuracy(found: Rows) -> str:
    """Return the table of validation accuracy by configuration, over seeds."""
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
    """Return the table of validation accuracy by number of images, start and way to fine-tune, over seeds."""
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
    """Return the table of seconds an epoch by loop, and a sentence on what cached features save."""
    loops = [row for row in found if "images_per_s" in row]
    fastest = min(row["seconds"] for row in loops if row["loop"].startswith("fastcifar"))
    body = [
        [
            row["loop"],
            f"{row['seconds']:.2f}",
            ranged(row),
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


def openmp(found: Rows) -> str:
    """Return a table of images/s for each setting of OpenMP, with a column for each number of busy neighbours."""
    counts = sorted({row["neighbours"] for row in found})
    rates: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in found:
        rates.setdefault(row["setting"], {})[row["neighbours"]] = row
    body = [[setting, *(ranged(by_count[count]) for count in counts)] for setting, by_count in rates.items()]
    header = ["setting", *("idle cores" if not count else counted(count, "busy neighbour") for count in counts)]
    return under(table(header, body, numbers=False), found, ("torch",))
