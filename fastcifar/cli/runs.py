"""The command ``fastcifar runs``: its options and output. The work is done in fastcifar.runs, which is imported when
the command runs.
"""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from fastcifar.cli.complete import choices, columns, run_ids, settings
from fastcifar.cli.options import RUNS, Json, RunsFrom, Wide
from fastcifar.show.console import console, note, say
from fastcifar.show.text import counted
from fastcifar.system.paths import path_of


def runs_command(
    out: RunsFrom = RUNS,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="key=value or key=value,value: only runs with one of the values. May be repeated.",
            autocompletion=settings("--only", several=True),
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="The column to sort by; a minus before its name puts the largest first.",
            autocompletion=choices(columns),
        ),
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", parser=path_of, metavar="FILE", help="Write all columns to a CSV file; - prints them."),
    ] = None,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            help="Compare two runs. Name each by its id, a part of its id, or its directory.",
            autocompletion=run_ids,
        ),
    ] = None,
    seal: Annotated[
        bool,
        typer.Option("--seal", help="Only seal finished runs of before version 0.3, and mark them as sealed later."),
    ] = False,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Show runs: the settings that they have in common, the settings in which they differ, and their results.

    Examples: fastcifar runs --only experiment=2 --only recipe=basic,erasing --sort -val_accuracy

    fastcifar runs --diff cnn-basic-b128-lr0.001 5ab0c1d2

    fastcifar runs --csv runs.csv
    """
    from fastcifar.errors import FastcifarError, UsageError
    from fastcifar.runs.record import read_runs
    from fastcifar.runs.rows import absent_values, choose_rows, in_order, row_of
    from fastcifar.system.atomic import require_writable

    if seal:
        if only or sort or csv_file or diff:
            raise UsageError("--seal only seals the runs below --out; leave out --only, --sort, --csv and --diff")
        _seal(out, as_json)
        return
    if diff is not None:
        if only or sort or csv_file:
            raise UsageError("--diff only compares two runs; leave out --only, --sort and --csv")
        _compare(diff, out, as_json)
        return
    if csv_file is not None and as_json:
        raise UsageError("--csv and --json are two forms of the same output; leave out one of them")
    printed = csv_file is not None and str(csv_file) == "-"
    if not printed:
        require_writable(csv_file, ".csv", "the export is a CSV file")
    read = read_runs(out)
    rows = [row_of(record) for record in read.records]
    for reason in (*read.damaged.values(), *read.foreign.values()):
        say(f"skipped: {reason}", stderr=True)
    if read.damaged and not rows:
        raise FastcifarError(f"no run below {out} can be read; {counted(len(read.damaged), 'run')} damaged, see above")
    chosen = in_order(choose_rows(rows, only or []), sort)
    for sentence in absent_values(rows, only or []) if chosen or as_json or printed else []:
        note(sentence)
    if as_json:
        print(json.dumps(chosen))
    elif printed:
        _write(chosen, sys.stdout)
    elif csv_file is not None:
        from fastcifar.system.atomic import whole

        with whole(csv_file) as path, open(path, "w", -1, "utf-8", "backslashreplace", "") as file:
            _write(chosen, file)
        say(f"{csv_file}: {counted(len(chosen), 'run')}")
    elif chosen:
        _show(chosen, wide)
    elif rows:
        say(f"none of {counted(len(rows), 'run')} below {out} matches --only; {_values(rows, only or [])}")
    else:
        say(f"no runs below {out} yet")


def _show(chosen: Sequence[dict[str, Any]], wide: bool) -> None:
    from fastcifar.runs.overview import overview

    on = console(wide)
    notes, table = overview(chosen, on.width)
    for each in (*notes, ""):
        say(each)
    on.print(table)


def _seal(out: Path, as_json: bool) -> None:
    from fastcifar.runs.sealing import seal_runs

    done, left = seal_runs(out)
    for sentence in left:
        say(f"skipped: {sentence}", stderr=True)
    if as_json:
        print(json.dumps({"sealed": done, "left": left}))
    else:
        say(f"{counted(len(done), 'run')} sealed below {out}, and marked as sealed later")


def _values(rows: Sequence[dict[str, Any]], only: Sequence[str]) -> str:
    """Return the values that exist for each key of ``only``, in words."""
    from fastcifar.runs.settings import listing

    keys = dict.fromkeys(pair.partition("=")[0] for pair in only)
    return "; ".join(f"{key} has {listing(row[key] for row in rows) or 'no values'}" for key in keys)


def _compare(diff: tuple[str, str], out: Path, as_json: bool) -> None:
    from fastcifar.errors import UsageError
    from fastcifar.runs.difference import Difference, named

    a, b = (named(text, out) for text in diff)
    if a.path.resolve() == b.path.resolve():
        raise UsageError(f"--diff {diff[0]} {diff[1]}: both are the run {a.path.name}; name two different runs")
    difference = Difference.of(a, b)
    if as_json:
        print(json.dumps(difference.plain()))
        return
    for letter, name in zip("AB", difference.names, strict=True):
        say(f"{letter}: {name}")
    for table in difference.tables():
        console().print(table)
    for sentence in difference.sentences():
        say(sentence)


def _write(rows: Sequence[dict[str, Any]], file: TextIO) -> None:
    from fastcifar.runs.rows import COLUMNS

    writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
