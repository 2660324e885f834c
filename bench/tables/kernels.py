"""Tables of kernels: on a CPU, the deviation of their pixels from the definition, and on a GPU."""

from typing import Any

from bench.tables.cells import ranged
from fastcifar.show.markdown import Rows, table, under

OURS, PACKAGES = "gpu", ("torch", "torchvision", "triton")


def kernels_on_cpu(found: Rows) -> str:
    """Return the table of images/s by recipe: our kernel, torchvision's operations, the plain loop."""
    speed = {(row["recipe"], row["dtype"], row["kernel"]): row for row in found}
    body = []
    for recipe, dtype in dict.fromkeys((row["recipe"], row["dtype"]) for row in found):
        ours, theirs = speed[recipe, dtype, "cpu"], speed[recipe, dtype, "torchvision, 1 thread"]
        plain = speed.get((recipe, dtype, "plain numba"))
        body.append(
            [
                f"{recipe}, {dtype}",
                ranged(ours),
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
    """Return the table of the largest deviations by recipe."""
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


def kernels_on_gpu(found: Rows) -> str:
    """Return the table of our kernel by recipe: images/s, the share of the ceiling, and the speed-up over each rival.

    Below the table: the machine, the contestants that do other work, and those without a speed or with wrong pixels.
    """
    speed = {(row["recipe"], row["dtype"], row["kernel"]): row for row in found}
    others = [name for name in dict.fromkeys(row["kernel"] for row in found) if name != OURS]
    body = []
    for recipe, dtype in dict.fromkeys((row["recipe"], row["dtype"]) for row in found):
        ours = speed[recipe, dtype, OURS]
        versus = [_faster(ours, speed.get((recipe, dtype, name))) for name in others]
        body.append([f"{recipe}, {dtype}", *_own(ours), *versus])
    header = ["recipe, output", "images/s: median (range)", "of the ceiling"]
    header += [f"faster than {name}" for name in others]
    return under(table(header, body) + _remarks(found) + _ceiling(found[0]), found, PACKAGES)


def _own(row: dict[str, Any]) -> list[str]:
    if not (row["images_per_s"] and row["verified"]):
        return ["none", ""]
    return [ranged(row), f"{100 * row['ceiling_share']:.0f} %"]


def _faster(ours: dict[str, Any], other: dict[str, Any] | None) -> str:
    """Return how many times faster ours is; in brackets where the other one does other work."""
    if other is None or not (ours["images_per_s"] and ours["verified"] and other["images_per_s"]):
        return ""
    times = f"{ours['images_per_s'] / other['images_per_s']:.3g}×"
    return times if other["verified"] else f"({times})"


def _ceiling(row: dict[str, Any]) -> str:
    copy, fill = (row[f"{name}_bandwidth"] / 1e12 for name in ("copy", "fill"))
    gpus = ", ".join(f"{gpu['name']}, driver {gpu['driver']}" for gpu in row["environment"]["gpus"])
    return (
        f"\n{gpus}. The ceiling: its memory copies {copy:.2f} TB/s (bytes read and written) and fills {fill:.2f}; an "
        "image is 3,072 bytes and its result.\n"
    )


def _remarks(found: Rows) -> str:
    """Return a line for each remark on a contestant, with the recipes that the remark is about."""
    reasons: dict[str, dict[str, None]] = {}
    for row in found:
        if row["reason"]:
            reasons.setdefault(f"{row['kernel']}: {row['reason']}", {})[f"{row['recipe']}, {row['dtype']}"] = None
    lines = "".join(f"\n- {reason} ({'; '.join(where)})" for reason, where in reasons.items())
    return f"\nIn brackets, or without a speed, and why:\n{lines}\n" if lines else ""
