"""The command ``fastcifar runs``: options and printing; the work is elsewhere, imported when it is needed."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from fastcifar.cli.options import RUNS, Json, RunsFrom
from fastcifar.show.console import console, say
from fastcifar.show.text import counted


def runs_command(
    out: RunsFrom = RUNS,
    only: Annotated[
        list[str] | None,
        typer.Option(help="key=value or key=value,value: runs with one of the values. May be repeated: with each."),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help="A column's name; with a minus before it, the largest first.")
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write all columns to a CSV file; -: print them.")
    ] = None,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="How two runs differ. Each: an id, or a part of one, or its directory."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show runs: what they have in common, what they differ in, and how good they are.

    Examples: fastcifar runs --only experiment=2 --only recipe=basic,erasing --sort -val_accuracy

    fastcifar runs --diff cnn-basic-b128-lr0.001 5ab0c1d2

    fastcifar runs --csv runs.csv
    """
    from fastcifar.errors import FastcifarError, UsageError
    from fastcifar.runs.record import read_runs
    from fastcifar.runs.rows import choose, in_order, row_of
    from fastcifar.system.atomic import require_writable

    if diff is not None:
        if only or sort or csv_file:
            raise UsageError("--diff compares two runs and nothing else; leave out --only, --sort and --csv")
        _compare(diff, out, as_json)
        return
    if csv_file is not None and as_json:
        raise UsageError("--csv and --json are two forms of the same answer; leave out one of them")
    printed = csv_file is not None and str(csv_file) == "-"
    if not printed:
        require_writable(csv_file, ".csv", "the export is a CSV file")
    found = read_runs(out)
    rows = [row_of(record) for record in found.records]
    for reason in (*found.damaged.values(), *found.foreign.values()):
        say(f"skipped: {reason}", stderr=True)
    if found.damaged and not rows:
        raise FastcifarError(f"no run below {out} can be read; {counted(len(found.damaged), 'run')} damaged, see above")
    chosen = in_order(choose(rows, only or []), sort)
    if as_json:
        print(json.dumps(chosen))
    elif printed:
        _write(chosen, sys.stdout)
    elif csv_file is not None:
        from fastcifar.system.atomic import whole

        with whole(csv_file) as path, open(path, "w", encoding="utf-8", newline="") as file:
            _write(chosen, file)
        say(f"{csv_file}: {counted(len(chosen), 'run')}")
    elif chosen:
        _show(chosen)
    elif rows:
        say(f"none of {counted(len(rows), 'run')} below {out} fits; {_values(rows, only or [])}")
    else:
        say(f"no runs below {out} yet")


def _show(chosen: Sequence[dict[str, Any]]) -> None:
    from fastcifar.runs.overview import overview

    notes, lines = overview(chosen, console().width)
    say("\n".join([*notes, "", *lines]))


def _values(rows: Sequence[dict[str, Any]], only: Sequence[str], shown: int = 10) -> str:
    """What there is to choose from, of each key that was asked for."""
    said = []
    for key in dict.fromkeys(pair.partition("=")[0] for pair in only):
        values = sorted({row[key] for row in rows if row[key] is not None})
        more = f" and {len(values) - shown} more" if len(values) > shown else ""
        said.append(f"{key} has {', '.join(map(str, values[:shown])) or 'no values'}{more}")
    return "; ".join(said)


def _compare(diff: tuple[str, str], out: Path, as_json: bool) -> None:
    from fastcifar.errors import UsageError
    from fastcifar.runs.difference import Difference, named

    a, b = (named(asked, out) for asked in diff)
    if a.path.resolve() == b.path.resolve():
        raise UsageError(f"--diff {diff[0]} {diff[1]}: both are the run {a.path.name}; name two")
    found = Difference.of(a, b)
    if as_json:
        print(json.dumps(found.plain()))
        return
    for letter, name in zip("AB", found.names, strict=True):
        say(f"{letter}: {name}")
    for table in found.tables():
        console().print(table)
    for sentence in found.sentences():
        say(sentence)


def _write(rows: Sequence[dict[str, Any]], file: TextIO) -> None:
    from fastcifar.runs.rows import COLUMNS

    writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
