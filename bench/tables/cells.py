"""Cells that several tables share."""

from collections.abc import Mapping
from typing import Any


def ranged(row: Mapping[str, Any]) -> str:
    """Return the row's images/s: the median, and in brackets the slowest and the fastest repeat."""
    return f"{row['images_per_s']:,.0f} ({row['images_per_s_min']:,.0f}-{row['images_per_s_max']:,.0f})"
