"""Options that several commands share, and reading lists that are separated by commas."""

from pathlib import Path
from typing import Annotated

import typer

from fastcifar.errors import UsageError
from fastcifar.show.text import parts

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead, for scripts.")]
Data = Annotated[Path, typer.Option(help="Dataset directory, made by `fastcifar convert`.")]
DATA = Path("data/cifar10")
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


def integers(text: str, option: str = "--seeds") -> list[int]:
    """``0,1,2`` as different integers. Raises UsageError for anything else."""
    try:
        numbers = [int(part) for part in parts(text)]
    except ValueError:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers):
        raise UsageError(f"{option} {text!r} is not a list of different integers such as 0,1,2")
    return numbers
