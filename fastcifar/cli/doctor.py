"""The command ``fastcifar doctor``: its options and output."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastcifar.cli.options import Json
from fastcifar.errors import UsageError
from fastcifar.show.columns import Column, Fitted
from fastcifar.show.console import console, say
from fastcifar.show.text import counted
from fastcifar.system.paths import path_of

if TYPE_CHECKING:
    from fastcifar.system.doctor import Finding

MARKS = {"ok": "green", "missing": "red", "without": "yellow"}
"""The states of a part, with their colours. without: fastcifar runs without the part."""


def doctor_command(
    clean: Annotated[
        bool,
        typer.Option(
            "--clean", help="Remove the temporary files of processes that are gone, and list them; no checks."
        ),
    ] = False,
    below: Annotated[
        list[Path] | None,
        typer.Option(
            parser=path_of,
            help="With --clean: a folder to clean as well, with all below it. Always cleaned are data and runs in the "
            "present folder, that folder itself, and the machine's folders of temporary files. Repeatable.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what this machine can do, what it lacks, and the cure. Exit code 1 when something required is missing.

    Examples: fastcifar doctor

    fastcifar doctor --clean --below ~/datasets
    """
    from fastcifar.system import doctor

    if below and not clean:
        raise UsageError("--below names folders for --clean; give both, or neither")
    if clean:
        _clean(below or [], as_json)
        return
    findings = doctor.diagnose()
    if as_json:
        print(json.dumps(doctor.doctor_rows(findings)))
    else:
        console().print(doctor_table(findings))
    if any(finding.required and not finding.ok for finding in findings):
        sys.exit(1)


def _clean(below: Sequence[Path], as_json: bool) -> None:
    """Remove what killed processes left, and print each path with its size."""
    from rich.filesize import decimal

    from fastcifar.system.doctor import leftovers

    if missing := [folder for folder in below if not folder.is_dir()]:
        raise UsageError(f"--below {missing[0]} is not a folder; name one that exists")
    removed = leftovers.clean(below)
    if as_json:
        print(
            json.dumps([{"path": str(left.path), "bytes": left.size, "moved_to": _text(left.dest)} for left in removed])
        )
        return
    for left in removed:
        done = f"removed {left.path}" if left.dest is None else f"moved {left.path} back to {left.dest}"
        say(f"{done} ({decimal(left.size)})")
    total = sum(left.size for left in removed if left.dest is None)
    say(f"{counted(len(removed), 'leftover')} of killed processes, {decimal(total)} freed")


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def doctor_table(findings: Sequence["Finding"]) -> Fitted:
    """Return the findings as a table for the terminal, with the cure below the detail."""
    columns = [
        Column("state", ["ok" if each.ok else "missing" if each.required else "without" for each in findings], False),
        Column("part", [each.name for each in findings], number=False),
        Column(
            "what was found", [each.detail if each.ok else f"{each.detail}\n→ {each.cure}" for each in findings], False
        ),
    ]
    return Fitted(columns, marks=MARKS)
