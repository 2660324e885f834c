"""Files of benchmark rows: JSON lines, each with the environment that it was measured in."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.system.atomic import write_whole


def rates(speeds: Sequence[float]) -> dict[str, Any]:
    """Return the median, least and most images/s of a contestant's repeats, and their number."""
    return {
        "images_per_s": median(speeds),
        "images_per_s_min": min(speeds),
        "images_per_s_max": max(speeds),
        "repeats": len(speeds),
    }


def write(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Replace the file ``path`` by these rows. Each row has its "environment" (``measure.environment``)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file. Raises UsageError for a missing file, FastcifarError for one that holds no rows."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}; make one with fastcifar bench --out {path}")
    try:
        return [dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, TypeError) as error:
        raise FastcifarError(f"{path} does not hold rows of JSON ({error}); choose another file") from error
