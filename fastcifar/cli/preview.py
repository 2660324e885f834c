"""The command ``fastcifar preview``: its options and output."""

from pathlib import Path
from typing import Annotated

import typer

from fastcifar.cli.complete import choices, recipes
from fastcifar.cli.options import DATA, Data
from fastcifar.show.console import next_step, say
from fastcifar.system.paths import path_of


def preview_command(
    data: Data = DATA,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            "--augment",
            help="A recipe of `fastcifar list recipes`, or field=value,... such as flip=0.5,crop=4.",
            autocompletion=choices(recipes),
        ),
    ] = "erasing",
    rows: Annotated[int, typer.Option(help="Number of images.")] = 8,
    columns: Annotated[int, typer.Option(help="Augmented versions of each image.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the augmentation.")] = 0,
    out: Annotated[Path, typer.Option(parser=path_of, help="The PNG file to write.")] = Path("preview.png"),
) -> None:
    """Draw sample images under a recipe. Each row shows one image, then its augmented versions.

    Example: fastcifar preview --data data/cifar10 --recipe erasing --out erasing.png
    """
    from fastcifar.data.dataset import Dataset
    from fastcifar.experiments import PROTOCOLS

    augment, dataset = PROTOCOLS["sound"].recipe(recipe), Dataset.open(data)
    from fastcifar.report.preview import preview

    preview(dataset, augment, out, rows, columns, seed)
    say(f"{out}: {rows} images, each unchanged and in {columns} versions under {recipe}")
    next_step("train", "--exp", 2, "--data", data, "--set", f"recipe={recipe}")
