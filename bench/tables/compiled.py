"""Tables of the GPU kernels' launches, compiled and measured, and of the estimated time of packs."""

from typing import Any

from bench.arithmetic import STEP_HEADER, cells
from bench.lib.sass import WARPS
from bench.tables.cells import ranged
from fastcifar.show.markdown import Rows, table, under

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

CANDIDATES = ["output", "warps an image", "dice", "registers", f"warps, of {WARPS}", "instructions", "spills", "draws"]


def compiled(found: Rows) -> str:
    """Return the tables of compiled kernels: those that are launched, then the other candidates for a launch.

    A line gives the resources that a kernel takes of a multiprocessor, and its number of instructions of each kind.
    """
    chosen = table(HEADER, lines([row for row in found if row["chosen"]]))
    return under(f"{chosen}\n{table(CANDIDATES, candidates(found))}", found, ("triton",))


def compiled_candidates(found: Rows) -> str:
    """Return the table of what `pixels.augment` takes of a multiprocessor with each candidate for its launch."""
    return under(table(CANDIDATES, candidates(found)), found, ("triton",))


def launches(found: Rows) -> str:
    """Return the table of the speed of `pixels.augment` alone with each candidate for its launch, the fastest first.

    The share is of the rate at which the device's memory copies.
    """
    kept = [row for row in found if row["what"] == "kernel" and row["recipe"] == "erasing"]
    body = [
        [row["dtype"], f"{row['launch']['warps']}{' (chosen)' if row['chosen'] else ''}", row["launch"]["dice"],
         ranged(row), f"{100 * row['ceiling_share']:.1f} %"]
        for row in sorted(kept, key=lambda row: (row["dtype"], -row["images_per_s"]))
    ]  # fmt: skip
    header = ["output", "warps an image", "dice", "images/s: median (range)", "of the copy bandwidth"]
    return under(table(header, body), kept, ("torch", "triton"))


def candidates(found: Rows) -> list[list[str]]:
    """Return a line for each candidate of the recipe that was compiled with all of them. The chosen one is marked."""
    recipes = {row["recipe"] for row in found if not row["chosen"]}
    body = []
    for row in sorted(found, key=lambda row: (row["dtype"], row["launch"]["dice"] != "inside", row["warps"])):
        if row["recipe"] not in recipes or row["kernel"] != "augment":
            continue
        before = next(
            (
                r
                for r in found
                if r["kernel"] == "write_draws" and (r["dtype"], r["launch"]) == (row["dtype"], row["launch"])
            ),
            None,
        )
        body.append([
            row["dtype"], f"{row['warps']}{' (chosen)' if row['chosen'] else ''}", row["launch"]["dice"],
            str(row["registers"]), f"{row['resident_warps']} ({row['resident_limit']})", f"{row['instructions']:,}",
            str(row["local_loads"] + row["local_stores"]),
            "" if before is None else f"{before['registers']} registers, {before['instructions']:,} instructions",
        ])  # fmt: skip
    return body


def lines(found: Rows) -> list[list[str]]:
    """Return the lines of the table. Launches whose kernels have equal counts share a line."""
    alike: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for row in found:
        recipes = alike.setdefault((row["kernel"], *_cells(row)), {})
        recipes.setdefault(row["dtype"], []).append(row["recipe"])
    return [
        [f"{kernel}: " + "; ".join(f"{', '.join(names)} ({dtype})" for dtype, names in recipes.items()), *cells]
        for (kernel, *cells), recipes in alike.items()
    ]


def arithmetic(found: Rows) -> str:
    """Return the tables of estimates for an H100: a step of each network by runs of a pack, then the report's grid."""
    steps = [row for row in found if row["bench"] == "arithmetic of a step"]
    wholes = [row for row in found if row not in steps]
    body = [cells(row, steps) for row in steps]
    lines = []
    for number in dict.fromkeys(row["experiment"] for row in wholes):
        rows = [row for row in wholes if row["experiment"] == number]
        early, late = (sum(row["grid_seconds"][end] for row in rows) / 60 for end in range(2))
        counts = [str(sum(row[key] for row in rows)) for key in ("grid_runs", "packs")]
        lines.append([str(number), *counts, f"{early:.1f} to {late:.1f}"])
    grid = table(["experiment", "runs", "packs", "minutes, if all stop early to if none does"], lines)
    return under(f"{table(list(STEP_HEADER), body)}\n{grid}", found, ("torch",))


def _cells(row: dict[str, Any]) -> list[str]:
    """Return the cells under HEADER, without the first column."""
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
