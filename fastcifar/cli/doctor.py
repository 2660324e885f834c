"""The command ``fastcifar doctor``: its options and output."""

import json
import sys

from fastcifar.cli.options import Json
from fastcifar.show.console import console


def doctor_command(as_json: Json = False) -> None:
    """Show what this machine can do, what it lacks, and the cure. Exit code 1 when something required is missing.

    Example: fastcifar doctor
    """
    from fastcifar.system import doctor

    findings = doctor.diagnose()
    if as_json:
        print(json.dumps(doctor.doctor_rows(findings)))
    else:
        console().print(doctor.doctor_table(findings))
    if any(finding.required and not finding.ok for finding in findings):
        sys.exit(1)
