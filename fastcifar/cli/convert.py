"""The commands ``fastcifar convert`` and ``fastcifar verify``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fastcifar.cli.options import Json
from fastcifar.show.console import say
from fastcifar.show.text import parts


def convert_command(
    source: Annotated[
        str,
        typer.Argument(
            help="Kaggle's cifar-10.zip or folder; the original python or binary archive; a folder, tar or zip of "
            "class folders of PNG or JPEG; cifar10 (download), digits (built in) or synthetic:N."
        ),
    ],
    dest: Annotated[Path, typer.Argument(help="The dataset directory to make.")],
    formats: Annotated[str, typer.Option(help="raw (always written), ffcv or dali; comma-separated.")] = "raw",
    split_seed: Annotated[int, typer.Option(help="Seed of the 4:1 training/validation split.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the dataset at DEST.")] = False,
    as_json: Json = False,
) -> None:
    """Convert a source into a dataset directory. The directory is made completely or not at all.

    Example: fastcifar convert ~/Downloads/cifar-10.zip data/cifar10 --formats raw,ffcv,dali
    """
    from fastcifar.data.convert import convert

    dataset = convert(source, dest, parts(formats), split_seed, overwrite)
    if as_json:
        print(json.dumps(dataset.manifest))
        return
    counts = ", ".join(f"{count:,} {part}" for part, count in dataset.manifest["counts"].items())
    say(f"{dest}: {counts} images of {len(dataset.classes)} classes, from {dataset.name}")


def verify_command(dest: Annotated[Path, typer.Argument(help="A dataset directory.")], as_json: Json = False) -> None:
    """Hash a dataset's files again and compare the hashes with its manifest.

    Example: fastcifar verify data/cifar10
    """
    from fastcifar.data.dataset import verify

    dataset = verify(dest)
    if as_json:
        print(json.dumps({"path": str(dest), "sha256": dataset.sha256, "files": len(dataset.manifest["files"])}))
    else:
        say(f"{dest}: all {len(dataset.manifest['files'])} files are as they were written ({dataset.sha256[:12]})")
