"""A run that a grid gave up: its failure.json says why. What the run has so far stays, and it may be tried again."""

import json
import time

from fastcifar.runs.files import RunFiles

NAME = "failure.json"


def failure_of(directory: RunFiles) -> str | None:
    """Why a grid gave the run up; None where it has not. Raises FastcifarError for a damaged file."""
    failure = directory.parsed(NAME)
    return None if failure is None else str(failure.get("error"))


def give_up(directory: RunFiles, error: str) -> None:
    """Write down that the run was given up, and why."""
    directory.path.mkdir(parents=True, exist_ok=True)
    directory.write(NAME, json.dumps({"error": error, "when": time.time()}).encode())


def retry(directory: RunFiles) -> None:
    """Take a failure back, as the run is about to be trained again."""
    (directory.path / NAME).unlink(missing_ok=True)
