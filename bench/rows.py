"""Rows of results: JSON lines that carry what they depend on."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastcifar.measure import Timing

RESULTS = Path(__file__).resolve().parent / "results"


def rates(timing: Timing, images: int) -> dict[str, Any]:
    """images/s of a contestant that handles ``images`` images a repeat: median, least, most, and the repeats."""
    return {
        "images_per_s": images / timing.median,
        "images_per_s_min": images / timing.max,
        "images_per_s_max": images / timing.min,
        "repeats": timing.repeats,
    }


def write(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write the rows in place of what ``path`` held. Each has its "environment" (``measure.environment``)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
