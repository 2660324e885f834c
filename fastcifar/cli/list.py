"""The command ``fastcifar list``: its options and output."""

import json
from typing import Annotated

import typer

from fastcifar.cli.complete import choices, sections
from fastcifar.cli.options import RUNS, Json, RunsFrom
from fastcifar.show.console import console


def list_command(
    what: Annotated[
        str, typer.Argument(help="experiments, recipes, pipelines, runs or all.", autocompletion=choices(sections))
    ] = "all",
    out: RunsFrom = RUNS,
    as_json: Json = False,
) -> None:
    """Show experiments with their models, recipes, pipelines (with what each lacks and why), and runs.

    Example: fastcifar list pipelines
    """
    from fastcifar.cli.listing import section_tables, sections

    found = sections(what, out)
    if as_json:
        print(json.dumps(found))
        return
    for table in section_tables(found):
        console().print(table)
