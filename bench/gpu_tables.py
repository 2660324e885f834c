"""The tables of kernels/README.md: what the compiler makes of the GPU kernels."""

from typing import Any

from bench.markdown import Rows, table, under
from bench.sass import WARPS

HEADER = [
    "kernel: recipes (output)",
    "registers",
    "shared bytes",
    f"warps, of {WARPS}",
    "instructions",
    "loads×bits",
    "stores×bits",
    "shared loads, stores",
    "shuffles",
    "barriers",
    "float64",
    "MUFU",
    "calls",
    "spills",
]


def compiled(found: Rows) -> str:
    """What each compiled kernel takes of a multiprocessor, and how many instructions of each kind it has."""
    return under(table(HEADER, lines(found)), found, ("triton",))


def lines(found: Rows) -> list[list[str]]:
    """The table's body: launches whose kernels came out the same share a line."""
    alike: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for row in found:
        recipes = alike.setdefault((row["kernel"], *_cells(row)), {})
        recipes.setdefault(row["dtype"], []).append(row["recipe"])
    return [
        [f"{kernel}: " + "; ".join(f"{', '.join(names)} ({dtype})" for dtype, names in recipes.items()), *cells]
        for (kernel, *cells), recipes in alike.items()
    ]


def _cells(row: dict[str, Any]) -> list[str]:
    """What stands under HEADER, but for the first column."""
    return [
        str(row["registers"]),
        f"{row['dynamic_shared_bytes']:,}",
        f"{row['resident_warps']} ({row['resident_limit']})",
        f"{row['instructions']:,}",
        _widths(row["global_loads"]),
        _widths(row["global_stores"]),
        f"{row['shared_loads']}, {row['shared_stores']}",
        *(str(row[name]) for name in ("shuffles", "barriers", "double", "special", "calls")),
        str(row["local_loads"] + row["local_stores"]),
    ]


def _widths(by_width: dict[str, int]) -> str:
    return ", ".join(f"{count}×{bits}" for bits, count in by_width.items())
