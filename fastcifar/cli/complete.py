"""The values that shell completion offers. None of these functions imports torch, so that a shell answers at once.

The values come from the declarations that the commands check them with. A function is called with the text so far, and
returns the texts that may replace it.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from fastcifar.errors import FastcifarError
from fastcifar.system.paths import path_of

Complete = Callable[[typer.Context, str], list[str]]


def choices(values: Callable[[], Iterable[str]], several: bool = False) -> Complete:
    """Return a completion by a function that returns all values. several: the values are separated by commas."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        return _beginning(values, incomplete, several)

    return complete


def _beginning(values: Callable[[], Iterable[str]], incomplete: str, several: bool) -> list[str]:
    before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
    given = set(before.split(",")) if comma else set()
    try:
        return [f"{before}{comma}{value}" for value in values() if value.startswith(last) and value not in given]
    except (FastcifarError, OSError):  # a shell cannot show an error
        return []


def models(context: typer.Context, incomplete: str) -> list[str]:
    """Complete a network of the experiment in --exp, or of any experiment; for experiment 4 also torchvision's."""
    from fastcifar.experiments import EXPERIMENTS, PRETRAINED, PROTOCOLS, experiment
    from fastcifar.models.names import torchvision_names

    asked = context.params.get("exp")
    numbers = [asked] if asked in EXPERIMENTS else list(EXPERIMENTS)
    names = [name for number in numbers for each in PROTOCOLS for name in experiment(number, each).models]
    more = sorted(torchvision_names()) if asked == PRETRAINED else []
    return _beginning(lambda: dict.fromkeys([*names, *more]), incomplete, several=False)


def precisions() -> list[str]:
    """Return the values of --amp."""
    from fastcifar.runs.plan import AMP

    return list(AMP)


def modes() -> list[str]:
    """Return the values of --compile."""
    from fastcifar.training.modes import MODES

    return ["auto", *MODES]


def logs() -> list[str]:
    """Return the values of --log."""
    from fastcifar.runs.logs import LOGS

    return list(LOGS)


def sections() -> list[str]:
    """Return the sections of `fastcifar list`."""
    from fastcifar.cli.listing import SECTIONS

    return [*SECTIONS, "all"]


def ways() -> list[str]:
    """Return the values of --way."""
    from fastcifar.packs.names import WAYS

    return ["auto", *WAYS]


def executors() -> list[str]:
    """Return the values of --executor."""
    from fastcifar.grid.asked import EXECUTORS

    return list(EXECUTORS)


def views() -> list[str]:
    """Return the values of --tta."""
    from fastcifar.predict.views import VIEWS

    return list(VIEWS)


def splits() -> list[str]:
    """Return the names of splits."""
    from fastcifar.data.dataset import ALIASES, SPLITS

    return [*SPLITS, *ALIASES]


def formats() -> list[str]:
    """Return the formats of a dataset."""
    from fastcifar.data.formats import FORMATS

    return list(FORMATS)


def devices() -> list[str]:
    """Return the names of devices. The CUDA devices are those that the driver shows as files."""
    return ["auto", "cpu", "cuda", *(f"cuda:{n}" for n in range(len(list(Path("/dev").glob("nvidia[0-9]*")))))]


def recipes() -> list[str]:
    """Return the names of the recipes."""
    from fastcifar.recipes import RECIPES

    return list(RECIPES)


def pipelines() -> list[str]:
    """Return the names of the pipelines, without their forms, which only an import could tell."""
    from fastcifar.pipeline.names import names

    return names()


def protocols() -> list[str]:
    """Return the names of the protocols."""
    from fastcifar.experiments import PROTOCOLS

    return list(PROTOCOLS)


def experiments() -> list[str]:
    """Return the numbers of the experiments."""
    from fastcifar.experiments import EXPERIMENTS

    return [str(number) for number in EXPERIMENTS]


def settings(option: str, several: bool) -> Complete:
    """Return a completion of key=value for --set or --only. several: a key may have values separated by commas."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        keys = _keys(option, str(context.info_name))
        key, equals, value = incomplete.partition("=")
        if not equals:
            return [f"{known}=" for known in keys if known.startswith(key)]
        return [f"{key}={text}" for text in _beginning(lambda: _values(key, context), value, several)]

    return complete


def _keys(option: str, command: str) -> Mapping[str, Any]:
    """Return the keys that an option of a command takes."""
    from fastcifar.grid.wanted import CHOOSABLE
    from fastcifar.runs.rows import COLUMNS
    from fastcifar.runs.settings import SETTABLE

    return SETTABLE if option == "--set" else COLUMNS if command == "runs" else CHOOSABLE


def _values(key: str, context: typer.Context) -> list[str]:
    """Return the values of a setting that has a finite number of them, else an empty list."""
    from fastcifar.models.names import WAYS
    from fastcifar.runs.spec import OPTIMIZERS, PRECISIONS, SCHEDULES

    known: dict[str, Callable[[], Iterable[str]]] = {
        "optimizer": lambda: OPTIMIZERS,
        "schedule": lambda: SCHEDULES,
        "precision": lambda: PRECISIONS,
        "tune": lambda: WAYS,
        "recipe": recipes,
        "protocol": protocols,
        "experiment": experiments,
        "pipeline": pipelines,
        "model": lambda: models(context, ""),
    }
    return list(known[key]()) if key in known else []


def columns() -> list[str]:
    """Return the columns of `fastcifar runs`."""
    from fastcifar.runs.rows import COLUMNS

    return list(COLUMNS)


def run_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the id of a run below --out."""
    out = Path(context.params.get("out") or "runs")
    return sorted(path.parent.name for path in out.glob(f"exp*/{_escaped(incomplete)}*/run.json"))


def run_directories(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the directory of a run: at first those below runs/, then folder by folder."""
    if not incomplete and (ours := sorted(str(path.parent) for path in Path("runs").glob("exp*/*/run.json"))):
        return ours
    folder, slash, start = incomplete.rpartition("/")
    try:
        below = path_of(folder or slash).glob(f"{_escaped(start)}*")
    except FastcifarError:  # a shell cannot show an error
        return []
    ends = {path.name: "" if (path / "run.json").exists() else "/" for path in below if path.is_dir()}
    return sorted(f"{folder}{slash}{name}{end}" for name, end in ends.items())


def _escaped(text: str) -> str:
    """Return a text that `Path.glob` takes literally."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)
