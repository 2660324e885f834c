"""Files of benchmark rows: JSON lines, each with the environment that it was measured in."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypedDict

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.show.provenance import Environment
from fastcifar.show.text import counted
from fastcifar.system.atomic import write_whole
from fastcifar.system.schema import Invalid, Name, Positive, Reason, parse

CURE = "choose a file that fastcifar bench wrote"
LONGEST = 1 << 20
"""The most bytes of a row."""


class Speed(TypedDict, total=False):
    """The keys that a page shows of a row of any benchmark, where the row has them."""

    pipeline: Name | None
    kernel: Name | None
    loop: Name | None
    device: Name
    recipe: Name | None
    dtype: Name | None
    model: Name | None
    reason: Reason | None
    batch_size: int | Name | None
    images_per_s: Positive | None
    images_per_s_min: Positive | None
    images_per_s_max: Positive | None
    ceiling_images_per_s: Positive | None
    write_share: float | None
    max_abs_dev: float | None
    pixels_apart: float | None
    verified: bool | None
    verified_pixels: bool | None
    environment: Environment


class Load(TypedDict, total=False):
    """What else ran on the machine."""

    busy_cores: float | None
    load_average: float | None


class _Contest(TypedDict):
    pipeline: Name
    recipe: Name
    device: Name
    dtype: Name
    model: Name | None
    reason: Reason | None
    batch_size: int
    threads: int
    images_per_s: Positive | None
    images_per_s_min: Positive | None
    images_per_s_max: Positive | None
    stall: float | None
    max_abs_dev: float | None
    pixels_apart: float | None
    ceiling_images_per_s: Positive | None
    build_seconds: float | None
    first_batch_seconds: float | None
    gap_p99_seconds: float | None
    peak_host_bytes: float | None
    cpu_seconds_per_million: float | None
    ceiling_share: float | None
    repeats: int | None
    turns: list[Positive] | None
    verified: bool
    environment: Environment


class Contest(_Contest, total=False):
    """The keys of a row of `fastcifar bench` that its tables and pictures need."""

    load: Load | None
    hindered: str | None


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
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_whole(path, text.encode(errors="replace"))  # the name of a file may have bytes that are no text


def read(path: Path, schema: Any = dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a file. Raises UsageError for a missing file, FastcifarError for one that holds other rows.

    schema: that of a row, as `system.schema.parse` takes it.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}; make one with fastcifar bench --out {path}")
    rows: list[dict[str, Any]] = []
    with open(path, "rb") as file:
        try:
            rows.extend(parse(line, schema) for line in iter(lambda: file.readline(LONGEST), b""))
        except Invalid as error:
            raise FastcifarError(f"{path}, line {len(rows) + 1}: not a row of a benchmark ({error}); {CURE}") from error
    for number, row in enumerate(rows, 1):
        if row.get("images_per_s") and not all(row.get(key, True) for key in ("images_per_s_min", "images_per_s_max")):
            raise FastcifarError(f"{path}, line {number}: it has a speed without its range; {CURE}")
    return rows


def contests(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file that ``fastcifar bench`` wrote.

    Raises as `read` does, and FastcifarError for an empty file and for rows of another kind.
    """
    found = read(path, Contest)
    for number, row in enumerate(found, 1):
        speeds = [row["images_per_s_min"], row["images_per_s_max"], row["turns"], row["repeats"]]
        if row["images_per_s"] and not all(speeds):
            raise FastcifarError(f"{path}, line {number}: it has a speed without its range and its turns; {CURE}")
    if not found:
        raise FastcifarError(f"{path} has no rows; {CURE}")
    return found


def kept(path: Path, append: bool, overwrite: bool) -> list[dict[str, Any]]:
    """Return the rows that stay in a file to which a benchmark is going to write.

    A file without rows, or no file, needs neither option. Raises UsageError for a file with rows where neither append
    nor overwrite is chosen, or both are, and for a file that holds something else.
    """
    if append and overwrite:
        raise UsageError("--append and --overwrite exclude each other; choose one of them")
    if path.is_dir():
        raise UsageError(f"--out {path} is a directory; name a file in it, such as {path / 'throughput.jsonl'}")
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return []
    try:
        found = contests(path)
    except FastcifarError as error:
        raise UsageError(f"{error}; it is left as it is: name another file with --out") from error
    if append:
        return found
    if not overwrite:
        raise UsageError(
            f"{path} has {counted(len(found), 'row')} already; add to them with --append, replace them with "
            "--overwrite, or name another file with --out"
        )
    return []
