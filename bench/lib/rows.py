"""The folder of the committed rows, and functions that write rows."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastcifar.system.atomic import flush
from fastcifar.system.measure import Timing
from fastcifar.throughput import rows
from fastcifar.throughput.rows import read, write

__all__ = ["RESULTS", "append", "rates", "read", "write"]
RESULTS = Path(__file__).resolve().parent.parent / "results"


def rates(timing: Timing, images: int) -> dict[str, Any]:
    """Return images/s of a contestant with ``images`` images a repeat: median, smallest, largest, and each repeat."""
    return rows.rates([images / seconds for seconds in timing.seconds])


def append(row: Mapping[str, Any], path: Path) -> None:
    """Append a row to a file and flush it to the disk, so that it survives the end of the process.

    A line that a killed process left unfinished is ended first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        unfinished = False
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            unfinished = file.read(1) != b"\n"
        file.write(b"\n" * unfinished + json.dumps(row).encode() + b"\n")
        flush(file)
