"""The file failure.json of a run that a grid gave up, which holds the reason.

The other files of the run stay, and the run may be tried again.
"""

import json
import time

from fastcifar.runs.files import RunFiles
from fastcifar.runs.schemas import Failure

NAME = "failure.json"


def failure_of(directory: RunFiles) -> str | None:
    """Return why a grid gave the run up, or None where it did not. Raises FastcifarError for a damaged file."""
    failure = directory.parsed(NAME, Failure)
    return None if failure is None else str(failure["error"])


def give_up(directory: RunFiles, error: str) -> None:
    """Write failure.json. error: why the run was given up."""
    directory.path.mkdir(parents=True, exist_ok=True)
    directory.write(NAME, json.dumps({"error": error, "when": time.time()}).encode())


def retry(directory: RunFiles) -> None:
    """Delete failure.json, before the run is trained again."""
    (directory.path / NAME).unlink(missing_ok=True)
