"""Tables in Markdown, and the line under one that says where its rows are from."""

from collections.abc import Sequence
from typing import Any

from fastcifar.show.provenance import commits, gpus, processor, software

Rows = list[dict[str, Any]]


def table(header: Sequence[str], body: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """The table's lines, each with its newline. Cells are text: what Markdown would read as a table's or HTML's own
    signs is escaped. numbers: every column but the first is aligned to the right.
    """
    rule = ["---"] + ["---:" if numbers else "---"] * (len(header) - 1)
    lines = [[plain(cell) for cell in header], rule, *([plain(cell) for cell in line] for line in body)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def plain(text: str) -> str:
    """Text on one line that ends no cell of a table and begins no HTML."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def under(text: str, found: Rows, packages: Sequence[str] = ("torch", "torchvision", "numba")) -> str:
    """The text, then the machine, the versions and the commits of the rows; the GPU first where rows are of one."""
    around = [row["environment"] for row in found]
    on_gpu = any(str(row.get("device", "cpu")).startswith("cuda") for row in found)
    machine = ("; " if on_gpu else "").join([gpus(around[0]) if on_gpu else "", processor(around[0])])
    return f"{text}\n{machine}; {software(around[0], packages)}; commit {commits(around)}.\n"
