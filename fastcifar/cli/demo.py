"""The command ``fastcifar demo``: convert a dataset, train on it and show the results, without a download."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastcifar.cli.results import show_results
from fastcifar.errors import UsageError
from fastcifar.show.console import note, say

if TYPE_CHECKING:
    from fastcifar.training.session import Session

EPOCHS = 10
NEXT = """
next, on real CIFAR-10 (Kaggle's cifar-10.zip, the original archives or class folders; see fastcifar convert --help):
  fastcifar convert cifar-10.zip data/cifar10
  fastcifar train --exp 2 --data data/cifar10
  fastcifar preview --data data/cifar10 --recipe erasing"""


def demo_command(
    folder: Annotated[Path, typer.Argument(help="The folder of its dataset, runs and picture.")] = Path("demo"),
) -> None:
    """Convert the built-in handwritten digits, train experiment 2 on them with three seeds, show the results.

    Example: fastcifar demo
    """
    done = run_demo(folder, note)
    show_results(done, folder / "curves.png")
    say(NEXT)


def run_demo(folder: Path, note: Callable[[str], None]) -> "Session":
    """Convert ``digits`` into every form that this machine can write, and train the headline configuration of
    experiment 2 on it, for EPOCHS epochs with three seeds. note: called with progress messages, such as why a form
    cannot be written.
    """
    from fastcifar.data.convert import convert
    from fastcifar.data.formats import FORMATS
    from fastcifar.runs.plan import headline_runs, precision_of
    from fastcifar.system.devices import device_of
    from fastcifar.training import session

    formats = [name for name in FORMATS if _writable(name, note)]
    dataset = convert("digits", folder / "digits", formats, overwrite=True)
    device = device_of("auto")
    precision = precision_of("auto", device)
    specs = headline_runs(2, dataset, epochs=EPOCHS, precision=precision)
    note(f"{dataset.name} in {', '.join(formats)}; training {len(specs)} seeds, {EPOCHS} epochs, {device}, {precision}")
    return session.run(specs, dataset, folder / "runs", device)


def _writable(name: str, note: Callable[[str], None]) -> bool:
    from fastcifar.data.formats import extra_formats

    try:
        extra_formats([name])
    except UsageError as error:
        note(f"going on without the {name} form: {error}")
        return False
    return True
