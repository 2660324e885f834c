"""The command ``fastcifar preview``."""

from pathlib import Path
from typing import Annotated

import typer

from fastcifar.cli.options import DATA, Data
from fastcifar.show.console import say


def preview_command(
    data: Data = DATA,
    recipe: Annotated[str, typer.Option(help="A recipe of `fastcifar list recipes`.")] = "erasing",
    rows: Annotated[int, typer.Option(help="Images.")] = 8,
    columns: Annotated[int, typer.Option(help="Draws of each, beside the image itself.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("preview.png"),
) -> None:
    """Draw sample images under a recipe: rows are images, columns are draws.

    Example: fastcifar preview --data data/cifar10 --recipe erasing --out erasing.png
    """
    from fastcifar.data.dataset import Dataset
    from fastcifar.experiments import PROTOCOLS
    from fastcifar.report.preview import preview

    preview(Dataset.open(data), PROTOCOLS["sound"].recipe(recipe), out, rows, columns, seed)
    say(f"{out}: {rows} images, each as it is and in {columns} draws of {recipe}")
