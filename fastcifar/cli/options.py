"""Options that several commands share, and the parsing of comma-separated lists."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from fastcifar.cli.complete import choices, devices, logs, pipelines, precisions, recipes
from fastcifar.errors import UsageError
from fastcifar.show.text import parts
from fastcifar.system.paths import path_of

T = TypeVar("T")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds of a unit of time

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead, for scripts.")]
Wide = Annotated[bool, typer.Option("--wide", help="Show all columns, in lines as long as they need.")]
Data = Annotated[Path, typer.Option(parser=path_of, help="Dataset directory, made by `fastcifar convert`.")]
DATA = Path("data/cifar10")
Unverified = Annotated[
    bool, typer.Option("--no-verify", help="Do not compare the dataset's files with their hashes. Runs are marked.")
]
RunsFrom = Annotated[Path, typer.Option(parser=path_of, help="The folder of the run directories.")]
RunsTo = Annotated[Path, typer.Option(parser=path_of, help="The folder in which run directories are made.")]
RUNS = Path("runs")
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", autocompletion=choices(devices))]
Amp = Annotated[str, typer.Option(help="auto, off, bfloat16 or float16.", autocompletion=choices(precisions))]
Logged = Annotated[str, typer.Option(help="none, tensorboard, wandb or mlflow.", autocompletion=choices(logs))]
Epochs = Annotated[int | None, typer.Option(help="The most epochs of a run (early stopping may end it before).")]
Augmented = Annotated[
    str | None,
    typer.Option(
        "--augment",
        help="A recipe, or field=value,... such as flip=0.5,crop=4; the same as --set recipe=.",
        autocompletion=choices(recipes),
    ),
]
Batches = Annotated[
    str,
    typer.Option(
        help="The pipeline: a name of `fastcifar list pipelines`, or your own, package.module.",
        autocompletion=choices(pipelines),
    ),
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


def budget_seconds(budget: str) -> float:
    """Return the seconds of a time such as 1h30m. Raises UsageError for anything else."""
    amounts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", budget)
    if not amounts or "".join(number + unit for number, unit in amounts) != budget:
        raise UsageError(f"--budget {budget!r} is not a time; write it as 90s, 45m, 2h or 1h30m")
    seconds = sum(float(number) * UNITS[unit] for number, unit in amounts)
    if not seconds:
        raise UsageError(f"--budget {budget} leaves no time to train; give more, such as 45m")
    return seconds


def experiment_number(text: str) -> int:
    """Return the number of an experiment. Raises UsageError for a text that is not a number."""
    if not text.isdigit():
        raise UsageError(f"--exp {text!r} is not an experiment's number; choose 1, 2, 3, 4 or all")
    return int(text)


def spanned(text: str) -> list[int]:
    """Return the seeds of a text such as 0,1,2 or 0-9. Raises UsageError for anything else, and for equal seeds."""
    spans = [re.fullmatch(r"(\d+)(?:-(\d+))?", part) for part in parts(text)]
    if not spans or None in spans:
        raise UsageError(f"--seeds {text!r} is not a list of seeds; write a list such as 0,1,2 or a span such as 0-9")
    numbers = [seed for span in spans if span is not None for seed in range(int(span[1]), int(span[2] or span[1]) + 1)]
    if not numbers or len(set(numbers)) < len(numbers):
        raise UsageError(f"--seeds {text!r} names a seed twice, or none; name at least one seed, each once")
    return numbers
