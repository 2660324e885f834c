"""The command ``fastcifar doctor``: its options and output."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastcifar.cli.options import Json
from fastcifar.show.columns import Column, Fitted
from fastcifar.show.console import console

if TYPE_CHECKING:
    from fastcifar.system.doctor import Finding

MARKS = {"ok": "green", "missing": "red", "without": "yellow"}
"""The states of a part, with their colours. without: fastcifar runs without the part."""


def doctor_command(as_json: Json = False) -> None:
    """Show what this machine can do, what it lacks, and the cure. Exit code 1 when something required is missing.

    Example: fastcifar doctor
    """
    from fastcifar.system import doctor

    findings = doctor.diagnose()
    if as_json:
        print(json.dumps(doctor.doctor_rows(findings)))
    else:
        console().print(doctor_table(findings))
    if any(finding.required and not finding.ok for finding in findings):
        sys.exit(1)


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
