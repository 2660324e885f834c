"""The check for temporary files of processes that are gone, and their removal."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.filesize import decimal

from fastcifar.system import caches, temporary
from fastcifar.system.doctor.finding import Finding, finding
from fastcifar.system.temporary import Left

SHOWN = 3  # leftovers that the finding names
BELOW = ("data", "runs")
"""The folders of datasets and runs that the commands use by default."""


def leftovers() -> Finding:
    """Check for files and folders that killed processes left in `places`."""
    left = temporary.left_in(places())
    size, more = decimal(sum(each.size for each in left)), len(left) - SHOWN
    detail = f"{len(left)} of killed processes, {size}: {', '.join(str(each.path) for each in left[:SHOWN])}"
    detail += f" and {more} more" if more > 0 else ""
    return finding("leftovers", not left, detail if left else "nothing of killed processes", "fastcifar doctor --clean")


def clean(below: Iterable[Path] = ()) -> list[Left]:
    """Remove what processes that are gone left in `places` and in the folders ``below``, and return it.

    What living processes use, and what fastcifar did not make, stays.
    """
    return [left for folder in dict.fromkeys(places(below)) for left in temporary.sweep(folder)]


def places(below: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield the folders in which fastcifar leaves temporary files: its own, the present one, and all of some trees.

    The trees are the folders BELOW in the present one and the folders ``below``.
    """
    yield from (Path(tempfile.gettempdir()), temporary.SHARED, caches.own_folder(), Path.cwd())
    for tree in (*(Path.cwd() / name for name in BELOW), *below):
        for folder, folders, _ in os.walk(tree):
            folders[:] = [name for name in folders if not temporary.NAME.fullmatch(name)]
            yield Path(folder)
