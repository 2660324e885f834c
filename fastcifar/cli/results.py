"""The output of ``fastcifar train`` and ``fastcifar demo`` when their runs have ended."""

from pathlib import Path
from typing import TYPE_CHECKING

from fastcifar.show.console import console, say

if TYPE_CHECKING:
    from fastcifar.training.session import Session


def show_results(done: "Session", picture: Path) -> None:
    """Print the table of results and write the picture of the training curves."""
    from fastcifar.show.results import results_table

    console().print(results_table(done.by_configuration()))
    done.draw_curves(picture)
    say(f"picture: {picture}")
