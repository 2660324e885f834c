"""The command ``fastcifar report``: its options and output. The work is done in fastcifar.report, which is imported
when the command runs.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from fastcifar.cli.complete import choices, devices
from fastcifar.cli.options import RUNS, Json, RunsFrom
from fastcifar.show.console import note, say
from fastcifar.show.text import counted
from fastcifar.system.paths import path_of


def report_command(
    runs: RunsFrom = RUNS,
    out: Annotated[
        Path | None, typer.Option(parser=path_of, help="The folder to make; default: report, or bench-report.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            parser=path_of,
            help="Dataset directory: used to predict with the kept weights, once, and to show sample images.",
        ),
    ] = None,
    test: Annotated[
        bool,
        typer.Option(
            "--test", help="Also judge the runs on the labelled test images of --data, which are not Kaggle's."
        ),
    ] = False,
    bench: Annotated[
        list[Path] | None,
        typer.Option(
            "--bench", parser=path_of, metavar="ROWS", help="Make a page of rows of fastcifar bench. May be repeated."
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(help="Device of the predictions: auto, cpu, cuda or cuda:N.", autocompletion=choices(devices)),
    ] = "auto",
    as_json: Json = False,
) -> None:
    """Make the report from run directories: figures, tables, verdicts on its claims, and one page with all of them.

    The command also works while a grid is running; the report then says which runs are missing.

    Examples: fastcifar report --runs runs --out report --data data/cifar10

    fastcifar report --runs runs --data data/cifar10 --test

    fastcifar report --bench throughput-cuda.jsonl --out throughput
    """
    from fastcifar.errors import UsageError

    if bench:
        from fastcifar.throughput import page

        if data is not None or test:
            surplus = "--data" if data is not None else "--test"
            raise UsageError(f"--bench makes a page of benchmark rows and needs no {surplus}; leave one of them out")
        folder = out or Path("bench-report")
        files = page.build_page(bench, folder)
        if as_json:
            print(json.dumps({"out": str(folder), "files": files}))
        else:
            say(f"{folder / 'index.html'}: rows of {', '.join(map(str, bench))}")
            _open_it(folder)
        return
    from fastcifar.data.dataset import Dataset
    from fastcifar.report.testable import require_test_part
    from fastcifar.runs.record import require_folder
    from fastcifar.system.launch import check_device

    # whatever can be refused is refused before torch is imported, which takes seconds
    require_folder(runs)
    check_device(device)
    folder, dataset = out or Path("report"), None if data is None else Dataset.open(data)
    if test:
        require_test_part(dataset, runs)
    note(f"reading the runs below {runs}")

    from fastcifar.report.build import build_report
    from fastcifar.report.verdict import NOT_RUN
    from fastcifar.system.devices import device_of

    made = build_report(runs, folder, dataset, device_of(device), test)
    notes, verdicts = made.contents.notes, made.verdicts
    if as_json:
        answer = {"out": str(folder), "files": made.files, "notes": notes, "verdicts": verdicts}
        on_test = {"test": made.tested} if test else {}
        print(json.dumps(answer | {"runs": len(made.collection.runs)} | on_test))
        return
    for each in notes:
        note(f"note: {each}")
    if made.tested is not None:
        for each in made.tested["said"]:
            say(each)
        for claim in made.tested["claims"]:
            if claim["verdict"] != NOT_RUN:
                say(f"{claim['said']} {claim['verdict'].capitalize()} under {claim['protocol']}: {claim['measured']}")
    say(", ".join(f"{counted(count, 'claim')} {verdict}" for verdict, count in verdicts.items()))
    say(f"{folder / 'index.html'}: {counted(len(made.collection.runs), 'run')}; also report.md and the figures")
    _open_it(folder)


def _open_it(folder: Path) -> None:
    note(f"look at it: {(folder / 'index.html').resolve().as_uri()}")
