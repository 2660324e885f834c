"""Tables in Markdown, and the line below a table that names the machine and software of its rows."""

import re
from collections.abc import Sequence
from typing import Any

from fastcifar.show.provenance import commits, gpu_text, processor, software
from fastcifar.show.text import printable

Rows = list[dict[str, Any]]
_MEANING = re.compile(r"\\(?=[!-/:-@[-`{-~])|[|$]|\](?=[(\[:])|&(?=#?\w+;)|<")


def table(header: Sequence[str], body: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """Return the lines of a Markdown table, each with its newline.

    Cells are text: `escaped` escapes characters with a meaning in Markdown tables or HTML. numbers: align every
    column but the first to the right.
    """
    rule = ["---"] + ["---:" if numbers else "---"] * (len(header) - 1)
    lines = [[escaped(cell) for cell in header], rule, *([escaped(cell) for cell in line] for line in body)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def escaped(text: str) -> str:
    """Return the text on one line, escaped so that a reader sees it as it is.

    It ends no table cell, and starts no HTML tag, link, picture or formula. Emphasis and code are left to the text.
    """
    text = " ".join(printable(text).split("\n"))
    return _MEANING.sub(lambda found: {"<": "&lt;", "&": "&amp;"}.get(found[0], f"\\{found[0]}"), text)


def under(text: str, found: Rows, packages: Sequence[str] = ("torch", "torchvision", "numba")) -> str:
    """Return the text with a line for the machine, versions and commits of the rows; a GPU comes first, if used."""
    around = [row["environment"] for row in found]
    on_gpu = any(str(row.get("device", "cpu")).startswith("cuda") for row in found)
    machine = ("; " if on_gpu else "").join([gpu_text(around[0]) if on_gpu else "", processor(around[0])])
    return f"{text}\n{machine}; {software(around[0], packages)}; commit {commits(around)}.\n"
