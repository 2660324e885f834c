"""Tables of kernels on a CPU: their speed, and the deviation of their pixels from the definition."""

from bench.tables.cells import ranged
from fastcifar.show.markdown import Rows, table, under


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
