"""Files of benchmark rows: JSON lines, each with the environment that it was measured in."""

import json
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.show.text import counted
from fastcifar.system.atomic import write_whole

NUMBER = (int, float)
CONTEST: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("pipeline", "recipe", "device", "dtype"), (str,)),
    **dict.fromkeys(("model", "reason"), (str, type(None))),
    **dict.fromkeys(("batch_size", "threads"), (int,)),
    **dict.fromkeys(("images_per_s", "images_per_s_min", "images_per_s_max"), (*NUMBER, type(None))),
    **dict.fromkeys(("stall", "max_abs_dev", "pixels_apart", "ceiling_images_per_s"), (*NUMBER, type(None))),
    **dict.fromkeys(("build_seconds", "first_batch_seconds", "gap_p99_seconds"), (*NUMBER, type(None))),
    **dict.fromkeys(("peak_host_bytes", "cpu_seconds_per_million", "ceiling_share"), (*NUMBER, type(None))),
    "repeats": (int, type(None)),
    "turns": (list, type(None)),
    "verified": (bool,),
    "environment": (dict,),
}
"""The keys of a row of `fastcifar bench` that its tables and pictures need, and the types of their values."""


ENVIRONMENT: dict[str, type] = {"versions": dict, "threads": dict, "gpus": list}
"""The keys of a row's environment that are shown in parts, where it has them, and the types of their values."""


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


def contests(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file that ``fastcifar bench`` wrote.

    Raises as `read` does, and FastcifarError for an empty file and for rows of another kind.
    """
    found = read(path)
    for number, row in enumerate(found, 1):
        if wrong := _wrong(row):
            raise FastcifarError(f"{path}, line {number}: {wrong}; choose a file that fastcifar bench wrote")
    if not found:
        raise FastcifarError(f"{path} has no rows; choose a file that fastcifar bench wrote")
    return found


def _wrong(row: Mapping[str, Any]) -> str | None:
    """Return why a row is not one of fastcifar bench, or None where it is one."""
    for key, types in CONTEST.items():
        if key not in row:
            return f"the row has no {key!r}"
        if not isinstance(row[key], types) or (isinstance(row[key], bool) and bool not in types):
            return f"{key!r} is {row[key]!r:.60}"
    for key, kind in ENVIRONMENT.items():
        if not isinstance(row["environment"].get(key, kind()), kind):
            return f"{key!r} of its environment is {row['environment'][key]!r:.60}"
    if not isinstance(load := row.get("load") or {}, dict) or not all(
        isinstance(load.get(key), (*NUMBER, type(None))) for key in ("busy_cores", "load_average")
    ):
        return f"'load' is {load!r:.60}"
    if row["images_per_s"] is None:
        return None
    turns = row["turns"] or []
    speeds = [row["images_per_s"], row["images_per_s_min"], row["images_per_s_max"], *turns]
    if not (turns and row["repeats"]) or not all(isinstance(speed, NUMBER) and 0 < speed < inf for speed in speeds):
        return "it has a speed, and its turns are not images/s"
    return None


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
