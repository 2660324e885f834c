"""The output of ``fastcifar train`` and ``fastcifar demo`` when their runs have ended."""

from pathlib import Path
from typing import TYPE_CHECKING

from fastcifar.show.console import console, say

if TYPE_CHECKING:
    from fastcifar.training.session import Session


def show_results(done: "Session", picture: Path, wide: bool = False) -> None:
    """Print the table of results and write the picture of the training curves. wide: show all columns."""
    from fastcifar.show.results import results_table

    console(wide).print(results_table(done.by_configuration()))
    done.draw_curves(picture)
    say(f"picture: {picture}")
