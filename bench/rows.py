"""Where the committed rows are, and what scripts under bench/ need to write more of them."""

from pathlib import Path
from typing import Any

from fastcifar.measure import Timing
from fastcifar.throughput import rows
from fastcifar.throughput.rows import read, write

__all__ = ["RESULTS", "rates", "read", "write"]
RESULTS = Path(__file__).resolve().parent / "results"


def rates(timing: Timing, images: int) -> dict[str, Any]:
    """images/s of a contestant that handles ``images`` images a repeat: median, least, most, and the repeats."""
    return rows.rates([images / seconds for seconds in timing.seconds])
