"""Where the committed rows are, and what scripts under bench/ need to write more of them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastcifar.system.measure import Timing
from fastcifar.throughput import rows
from fastcifar.throughput.rows import read, write

__all__ = ["RESULTS", "append", "rates", "read", "write"]
RESULTS = Path(__file__).resolve().parent.parent / "results"


def rates(timing: Timing, images: int) -> dict[str, Any]:
    """images/s of a contestant that handles ``images`` images a repeat: median, least, most, and the repeats."""
    return rows.rates([images / seconds for seconds in timing.seconds])


def append(row: Mapping[str, Any], path: Path) -> None:
    """Add a row to a file and put it on the disk: it is there whatever becomes of the process that measured it.

    A line that a killed process left unfinished is ended first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        unfinished = False
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            unfinished = file.read(1) != b"\n"
        file.write(b"\n" * unfinished + json.dumps(row).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
