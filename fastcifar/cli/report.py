"""The command ``fastcifar report``: options and printing; the work is elsewhere, imported when it is needed."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fastcifar.cli.options import RUNS, Json, RunsFrom
from fastcifar.show.console import say
from fastcifar.show.text import counted


def report_command(
    runs: RunsFrom = RUNS,
    out: Annotated[Path | None, typer.Option(help="The folder to make; default: report, or bench-report.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Dataset directory: kept weights are asked for predictions once, and images are shown."),
    ] = None,
    bench: Annotated[
        list[Path] | None,
        typer.Option("--bench", metavar="ROWS", help="Render rows of fastcifar bench instead. May be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="For predictions: auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Json = False,
) -> None:
    """Regenerate the report from run directories: figures, tables, verdicts on its claims, and one page with all of it.

    Any time, also while a grid is running: it says what is missing.

    Examples: fastcifar report --runs runs --out report --data data/cifar10

    fastcifar report --bench throughput-cuda.jsonl --out throughput
    """
    from fastcifar.data.dataset import Dataset
    from fastcifar.errors import UsageError
    from fastcifar.system.devices import device_of

    if bench:
        from fastcifar.throughput import page

        if data is not None:
            raise UsageError("--bench renders rows of fastcifar bench and needs no --data; leave one out")
        folder = out or Path("bench-report")
        files = page.build(bench, folder)
        if as_json:
            print(json.dumps({"out": str(folder), "files": files}))
        else:
            say(f"{folder / 'index.html'}: rows of {', '.join(map(str, bench))}")
        return
    from fastcifar.report.build import build

    folder = out or Path("report")
    made = build(runs, folder, None if data is None else Dataset.open(data), device_of(device))
    notes, verdicts = made.contents.notes, made.verdicts
    if as_json:
        answer = {"out": str(folder), "files": made.files, "notes": notes, "verdicts": verdicts}
        print(json.dumps(answer | {"runs": len(made.collection.runs)}))
        return
    for note in notes:
        say(f"note: {note}", stderr=True)
    say(", ".join(f"{counted(count, 'claim')} {verdict}" for verdict, count in verdicts.items()))
    say(f"{folder / 'index.html'}: {counted(len(made.collection.runs), 'run')}; also report.md and the figures")
