"""Rows of results: JSON lines that carry what they depend on."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.system.atomic import write_whole


def rates(speeds: Sequence[float]) -> dict[str, Any]:
    """images/s of a contestant's repeats: median, least, most, and how many they are."""
    return {
        "images_per_s": median(speeds),
        "images_per_s_min": min(speeds),
        "images_per_s_max": max(speeds),
        "repeats": len(speeds),
    }


def write(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write the rows in place of what ``path`` held. Each has its "environment" (``measure.environment``)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file. Raises UsageError where there is none, FastcifarError where it does not hold rows."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}; `fastcifar bench --out {path}` makes one")
    try:
        return [dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, TypeError) as error:
        raise FastcifarError(f"{path} does not hold rows of JSON: {error}") from error
