"""Options that several commands share, and the parsing of comma-separated lists."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from fastcifar.errors import UsageError
from fastcifar.show.text import parts

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead, for scripts.")]
Data = Annotated[Path, typer.Option(help="Dataset directory, made by `fastcifar convert`.")]
DATA = Path("data/cifar10")
RunsFrom = Annotated[Path, typer.Option(help="The folder of the run directories.")]
RunsTo = Annotated[Path, typer.Option(help="The folder in which run directories are made.")]
RUNS = Path("runs")
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Amp = Annotated[str, typer.Option(help="auto, off, bfloat16 or float16.")]
Epochs = Annotated[int | None, typer.Option(help="The most epochs of a run (early stopping may end it before).")]
Augmented = Annotated[
    str | None,
    typer.Option("--augment", help="A recipe, or field=value,... such as flip=0.5,crop=4; the same as --set recipe=."),
]
Batches = Annotated[
    str, typer.Option(help="The pipeline: a name of `fastcifar list pipelines`, or your own, package.module.")
]


def listed(text: str, option: str, read: Callable[[str], T], wanted: str) -> list[T]:
    """Return the comma-separated parts of a text, each converted by ``read``.

    option, wanted: the option's name and the expected parts, for the message. Raises UsageError where ``read`` raises
    ValueError.
    """
    try:
        return [read(part) for part in parts(text)]
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is not a list of {wanted}") from error


def integers(text: str, option: str = "--seeds") -> list[int]:
    """Return the integers of a text such as ``0,1,2``. Raises UsageError for anything else, and for equal integers."""
    wanted = "different integers such as 0,1,2"
    numbers = listed(text, option, int, wanted)
    if not numbers or len(set(numbers)) < len(numbers):
        raise UsageError(f"{option} {text!r} is not a list of {wanted}")
    return numbers


def positive(text: str) -> int:
    """Return a text as an integer of at least 1. Raises ValueError for anything else."""
    if (number := int(text)) < 1:
        raise ValueError(f"{text} is less than 1")
    return number
