"""The outcome of an attack, and the commands that are attacked."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
OUTCOMES = ("survived", "refused", "lost", "silent", "traceback", "left")
"""What came of an attack.

survived: the result is that of an undisturbed command. refused: exit status 1 or 2, and a message that names what is
wrong. lost: a result, or data that was there before, is gone or cannot be had again. silent: another result without a
message. traceback: the command ended with one, or with a message that names nothing. left: a process, or a temporary
file that the next command did not remove.
"""
GOOD = ("survived", "refused")


@dataclass(frozen=True)
class Outcome:
    """What came of one attack."""

    kind: str
    """The attack, such as "kill: train"."""
    result: str
    """One of OUTCOMES."""
    detail: str
    """What was done, and the first line that the command said."""


@dataclass(frozen=True)
class Answer:
    """The end of a command: its exit status and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.err

    @property
    def said(self) -> str:
        """The message of a command that failed, in one line."""
        lines = [line for line in self.err.splitlines() if line.startswith("error:")]
        return (lines or self.err.strip().splitlines()[-1:] or [""])[0][:200]


def command(*arguments: object) -> list[str]:
    """Return the command line of ``fastcifar`` with arguments."""
    return [sys.executable, "-m", "fastcifar", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """Return the variables of the attacked commands: one thread, so that repeated trainings have equal metrics."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    fixed = {"OMP_NUM_THREADS": "1", "COLUMNS": "80", "PYTHONPATH": path}
    return {name: value for name, value in os.environ.items() if name != "FASTCIFAR_VERIFIED"} | fixed | more


def run(*arguments: object, timeout: float = 600, **options: Any) -> Answer:
    """Run ``fastcifar`` to its end."""
    ended = subprocess.run(
        command(*arguments), capture_output=True, text=True, errors="replace", timeout=timeout,
        **{"env": environment(), "stdin": subprocess.DEVNULL, **options},
    )  # fmt: skip
    return Answer(ended.returncode, ended.stdout, ended.stderr)


def judged(kind: str, what: str, answer: Answer, same: bool, names: Iterable[str]) -> Outcome:
    """Return the outcome of a command on damaged input.

    what: the damage. same: whether the command's result is the undisturbed one. names: texts of which a refusal must
    contain one, such as the names of the damaged files.
    """
    if answer.traceback:
        result = "traceback"
    elif answer.code == 0:
        result = "survived" if same else "silent"
    else:
        wanted = list(names)
        named = answer.code in (1, 2) and any(name in answer.err for name in wanted)
        result = "refused" if named or not wanted else "traceback"
    return Outcome(kind, result, f"{what}: exit status {answer.code}, {answer.said}")


def run_paths(out: Path) -> list[Path]:
    """Return the run directories below a folder, sorted."""
    return sorted(file.parent for file in out.glob("exp*/*/run.json"))


def metrics_of(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of metrics of each finished run below a folder, without timings, by run-id."""
    from fastcifar.runs.directory import TIMING, find_runs

    return {
        directory.path.name: [{k: v for k, v in line.items() if k not in TIMING} for line in directory.metrics()]
        for directory in find_runs(out)
        if directory.summary() is not None
    }


def table(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return a row for each kind of attack: the number of tries, and of each outcome."""
    kinds = dict.fromkeys(outcome.kind for outcome in outcomes)
    return [{"attack": kind, **_counts([each for each in outcomes if each.kind == kind])} for kind in kinds]


def _counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    results = [outcome.result for outcome in outcomes]
    return {"tried": len(results), **{name: results.count(name) for name in OUTCOMES}}


def lines_of(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Yield the outcomes that are not good, as lines of JSON."""
    for outcome in outcomes:
        if outcome.result not in GOOD:
            yield json.dumps(asdict(outcome))
