"""The table of torchvision's networks: which ones train, go on after an interruption, and predict."""

from typing import Any

from fastcifar.show.markdown import Rows, table, under
from fastcifar.show.text import counted


def networks(found: Rows) -> str:
    """Return a sentence that counts the networks that work, and the table of all of them."""
    works = [row for row in found if row["result"] == "works"]
    body = [
        [
            row["model"],
            f"{row['parameters'] / 1e6:.1f}",
            str(row["side"]),
            {"full": "all weights", "head": "last layer"}[row["tune"]],
            row["result"],
            "" if row["seconds"] is None else f"{row['seconds']:.0f}",
            row["note"] or _enlarged(row),
        ]
        for row in sorted(found, key=lambda row: str(row["model"]))
    ]
    header = ["network", "parameters, millions", "side, pixels", "trained", "result", "seconds", "note"]
    tried = sum(row["result"] != "untested" for row in found)
    return under(
        f"{len(works)} of the {counted(tried, 'network')} that were tried work.\n\n" + table(header, body), found
    )


def _enlarged(row: dict[str, Any]) -> str:
    """Return how a network enlarges its images by itself, or "" where the recipe's kernels do."""
    return f"resizes to {row['enlarge'][0]} ({row['enlarge'][2]}) by itself" if row["enlarge"] else ""
