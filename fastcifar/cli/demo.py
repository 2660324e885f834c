"""The command ``fastcifar demo``: time the input pipelines, train and show the results, without a download."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastcifar.cli.results import show_results
from fastcifar.errors import UsageError
from fastcifar.show.bars import bars
from fastcifar.show.console import command_name, note, say
from fastcifar.system import caches, openmp
from fastcifar.system.paths import path_of

if TYPE_CHECKING:
    from fastcifar.data.dataset import Dataset
    from fastcifar.training.session import Session

EPOCHS = 10
RECIPE, BATCH_SIZE = "standard", 128
SECONDS = 0.7  # of a turn; a pipeline takes three turns, two of them to warm up
PIPELINES = {"resident": "resident", "ffcv": "FFCV", "dali": "DALI", "torchvision": "DataLoader"}
"""The pipelines that are timed, each with its label; the pipeline torchvision is torch's DataLoader."""
BAND = """
In the picture, a line is the mean of three seeds, and the shaded band around it is one standard deviation of them: what
changes when nothing but the seed does. A difference smaller than the band says little."""
NEXT = """
next, on real CIFAR-10, 170 MB (convert --help shows how to take Kaggle's files or folders of images):
  {command} convert cifar10 data/cifar10
  {command} train --exp 2 --data data/cifar10
  {command} preview --data data/cifar10 --recipe erasing
and your own machine, with more recipes and more repeats than above:
  {command} bench --quick --data data/cifar10"""


def demo_command(
    folder: Annotated[Path, typer.Argument(parser=path_of, help="The folder of its dataset, runs and picture.")] = Path(
        "demo"
    ),
) -> None:
    """Time the input pipelines on the built-in handwritten digits, train experiment 2 on them with three seeds, show
    the results. About a minute.

    Example: fastcifar demo
    """
    openmp.choose(note)
    caches.tell_of_numba(note)
    note(f"converting scikit-learn's handwritten digits into {folder / 'digits'}")
    dataset = converted(folder / "digits", note)
    show_pipelines(timed(dataset, note))
    done = trained(dataset, folder / "runs", note)
    show_results(done, folder / "curves.png")
    say(BAND)
    say(NEXT.format(command=command_name()))


def converted(folder: Path, note: Callable[[str], None]) -> "Dataset":
    """Convert ``digits`` into every form that this machine can write. note: called with why one cannot be written."""
    from fastcifar.data.convert import convert
    from fastcifar.data.formats import FORMATS

    return convert("digits", folder, [name for name in FORMATS if _writable(name, note)], overwrite=True)


def timed(dataset: "Dataset", note: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return a row of the benchmark (`throughput.entrant.Entrant.row`) for each of PIPELINES.

    Each runs in a process of its own. note: called before each.
    """
    from fastcifar.throughput.entrant import Rules
    from fastcifar.throughput.heat import hold
    from fastcifar.throughput.matrix import Matrix

    (heat,) = Matrix(list(PIPELINES), [RECIPE], [BATCH_SIZE], ["auto"]).heats(dataset)
    rules = Rules(repeats=1, seconds=SECONDS)
    rows = []
    for contestant in heat:
        note(f"timing {PIPELINES[contestant.pipeline]}: it starts, warms up and makes batches")
        rows += hold([contestant], rules)
    return rows


def show_pipelines(rows: list[dict[str, Any]]) -> None:
    """Print the images/s of each pipeline as bars, why a pipeline has none, and whether the pixels are equal."""
    labels = {row["pipeline"]: PIPELINES[row["pipeline"]] for row in rows}
    first = rows[0]
    say(f"\nimages/s of each input pipeline on {first['device']}, {first['threads']} cores, recipe {RECIPE}:")
    say(bars({labels[row["pipeline"]]: row["images_per_s"] for row in rows}))
    for row in rows:
        if row["reason"]:
            say(f"{labels[row['pipeline']]}: {row['reason']}")
    made = [row for row in rows if row["images_per_s"] is not None]
    if len(made) > 1 and all(row["verified"] and not row["differs"] for row in made):
        say("All of them made the same batches: their pixels were compared while they were timed.\n")


def trained(dataset: "Dataset", out: Path, note: Callable[[str], None]) -> "Session":
    """Train the headline configuration of experiment 2, for EPOCHS epochs with three seeds. note: called before."""
    from fastcifar.runs.plan import headline_runs, precision_of
    from fastcifar.system.devices import device_of
    from fastcifar.training import session

    device = device_of("auto")
    precision = precision_of("auto", device)
    specs = headline_runs(2, dataset, epochs=EPOCHS, precision=precision)
    note(f"training a CNN on the {dataset.name}: {len(specs)} seeds, {EPOCHS} epochs, {device}, {precision}")
    return session.run(specs, dataset, out, device)


def _writable(name: str, note: Callable[[str], None]) -> bool:
    from fastcifar.data.formats import extra_formats

    try:
        extra_formats([name])
    except UsageError as error:
        note(f"going on without the {name} form: {error}")
        return False
    return True
