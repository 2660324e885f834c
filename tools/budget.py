"""Run steps, each in a process of its own, within one budget of time. Their files lie in one folder and outlive them.

The steps append rows, test results, logs and profiles to these files while they run. When a step has ended, the files'
parts from its earlier attempts are removed, if the new attempt wrote any.
"""

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tools import evidence, processes

ROOT = Path(__file__).resolve().parent.parent
FULL = 300.0  # seconds of a full call, which the limits of steps refer to
RESERVE = 3.0  # seconds at the end of a call that are kept for the summary and the table
ROWS, TESTS, PROFILE, SUMMARY = "rows.jsonl", "tests.jsonl", "profile.txt", "summary.json"
FILES = (ROWS, "tests.log", TESTS, PROFILE, "bench.log", SUMMARY)
"""The files that a check may write into its folder."""
NEVER = "its turn did not come"


@dataclass(frozen=True)
class Step:
    """A Python command with its limits. arguments: Python's arguments, in which ``{out}`` stands for the folder and
    ``{limit}`` for the seconds after which the step is ended.
    """

    name: str
    does: str
    arguments: tuple[str, ...]
    limit: float
    """Seconds after which the step is ended in a call of FULL seconds; scaled for a longer or shorter call."""
    least: float = 10.0
    """Seconds without which the step is not started, because it could not measure anything."""
    depends: tuple[str, ...] = ()
    """Globs from the checkout's root: the files that the step's result depends on."""
    log: str = "bench.log"

    def fingerprint(self) -> str:
        """Return a hash of the command and of the files that the result depends on."""
        digest = hashlib.sha256(repr(self.arguments).encode())
        found = {path for glob in self.depends for path in ROOT.glob(glob) if path.is_file()}
        for path in sorted(found):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Result:
    """How a step ended."""

    name: str
    outcome: str
    """passed, failed, timed out, not begun or skipped; running, until the step has ended."""
    why: str = ""
    status: int | None = None
    """The exit status; negative where a signal ended the process."""
    seconds: float = 0.0
    limit: float = 0.0
    rows: int = 0
    """The number of rows that the step wrote; for tests, one row a test."""
    tail: list[str] = field(default_factory=list)
    """The last lines of the log, where the step did not pass."""
    fingerprint: str = ""
    commit: str | None = None
    gpus: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Budget:
    """The seconds of a call, counted from its start."""

    seconds: float = FULL
    began: float = field(default_factory=time.monotonic)

    def spent(self) -> float:
        return time.monotonic() - self.began

    def left(self) -> float:
        """Return the seconds that are left for steps."""
        return self.seconds - RESERVE - self.spent()

    def limit(self, step: Step) -> float:
        """Return the seconds that a step may take now.

        This is its share of the call, or in a short call the least that it needs, but never more than the time left.
        """
        return min(max(step.limit * self.seconds / FULL, step.least), self.left())


class Check:
    """One call: it runs the steps in order, and rewrites the summary whenever a result changes."""

    def __init__(self, planned: Sequence[Step], out: Path, budget: Budget, about: Mapping[str, Any], resume: bool):
        """Prepare the folder ``out``.

        about: facts for the summary: the commit, and the environment as `measure.environment` returns it. resume:
        continue with the files in the folder. Otherwise the files of an earlier check are removed, and no others.
        """
        self._planned, self._out, self._budget, self._about = planned, out, budget, about
        out.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (out / f"{name}{evidence.PART}").unlink(missing_ok=True)
            if not resume:
                (out / name).unlink(missing_ok=True)
        before = read_results(out)
        self.results = {step.name: before.get(step.name, Result(step.name, "not begun", NEVER)) for step in planned}

    def run(self, only: Sequence[str] = ()) -> bool:
        """Run the steps, and return whether all have passed.

        only: names of the steps to run, also if they have passed. Without names, run the steps that have not passed
        with their present command and files.
        """
        for step in self._planned:
            before = self.results[step.name]
            if only and step.name not in only:
                if before.why == NEVER:
                    self._note(Result(step.name, "skipped", "not in --only"))
                continue
            now = Result(
                step.name,
                "running",
                limit=round(max(0.0, self._budget.limit(step)), 1),
                fingerprint=step.fingerprint(),
                commit=self._about.get("commit"),
                gpus=[gpu["name"] for gpu in self._about.get("environment", {}).get("gpus", [])],
            )
            if not only and before.outcome == "passed" and before.fingerprint == now.fingerprint:
                self._note(replace(before, why="kept from before"))
            elif now.limit < step.least:
                left = max(0.0, self._budget.left())
                why = f"{left:.0f} s left, but it needs at least {step.least:g} s"
                earlier = f"; before: {before.outcome}" if before.status is not None else ""
                self._note(replace(now, outcome="not begun", why=why + earlier, rows=before.rows, tail=before.tail))
            else:
                self._take(step, now)
        return self.passed()

    def passed(self) -> bool:
        """Return whether every step has passed or was skipped."""
        return all(result.outcome in ("passed", "skipped") for result in self.results.values())

    def _take(self, step: Step, now: Result) -> None:
        print(f"{step.name}: at most {now.limit:.0f} s of the {self._budget.left():.0f} left ...", flush=True)
        self._note(now, say=False)
        started = time.monotonic()
        sizes = {name: evidence.size(self._out / name) for name in (step.log, ROWS, TESTS, PROFILE)}
        outcome, status, why = "failed", None, "the check itself was stopped"
        try:
            outcome, status, why = execute(step, self._out, now.limit)
        finally:
            seconds = round(time.monotonic() - started, 1)
            with (self._out / step.log).open("ab") as log:
                log.write(f"\n== {step.name}: {outcome}, exit status {status}, {seconds:.0f} s\n".encode())
            for name, size in sizes.items():
                evidence.keep_latest(self._out / name, step.name, size)
            tail = [] if outcome == "passed" else evidence.tail(self._out / step.log, step.name)
            written = [row for name in (ROWS, TESTS) for row in evidence.read_rows(self._out / name)]
            rows = sum(row.get("step") == step.name for row in written)
            self._note(replace(now, outcome=outcome, status=status, why=why, seconds=seconds, tail=tail, rows=rows))

    def _note(self, result: Result, say: bool = True) -> None:
        self.results[result.name] = result
        summary = {
            "passed": self.passed(),
            "budget": self._budget.seconds,
            "spent": round(self._budget.spent(), 1),
            **self._about,
            "steps": [asdict(one) for one in self.results.values()],
        }
        evidence.put(self._out / SUMMARY, json.dumps(summary, indent=2).encode() + b"\n")
        if say:
            why = f" ({result.why})" if result.why else ""
            print(f"{result.name}: {result.outcome}{why}, {result.seconds:.0f} s, {result.rows} rows", flush=True)


def execute(step: Step, out: Path, limit: float) -> tuple[str, int | None, str]:
    """Run a step in the checkout, with its output in its log. Returns the outcome, the exit status and the reason.

    When a step is ended, every process that it started is ended, too. The step ends when this process ends for any
    reason.
    """
    arguments = [each.replace("{limit}", f"{limit:.1f}").replace("{out}", str(out)) for each in step.arguments]
    # pytest finds our plugin in tools/ by name; other plugins that a lent machine may have are not loaded
    path = os.pathsep.join(filter(None, (str(ROOT), str(ROOT / "tools"), os.getenv("PYTHONPATH"))))
    variables = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with (out / step.log).open("ab") as log:
        log.write(f"\n== {step.name}: python {' '.join(arguments)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            processes.tied(arguments), cwd=ROOT, env=os.environ | variables,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        processes.end(process)
        return "timed out", process.poll(), f"ended after {limit:.0f} s"
    except BaseException:  # the step has a session of its own, which Ctrl-C does not reach
        processes.end(process)
        raise
    processes.end_session(process.pid)  # processes that the step left running
    return ("failed" if status else "passed"), status, ""


def read_results(out: Path) -> dict[str, Result]:
    """Return the results of an earlier call by step; an empty dict where there is no summary."""
    path = out / SUMMARY
    if not path.exists():
        return {}
    known = {each.name for each in fields(Result)}
    results = {
        each["name"]: Result(**{key: value for key, value in each.items() if key in known})
        for each in json.loads(path.read_bytes())["steps"]
    }
    return {
        name: replace(result, outcome="timed out", why="the check itself was killed")
        if result.outcome == "running"
        else result
        for name, result in results.items()
    }


def copied(source: Path, out: Path) -> None:
    """Copy the files of an earlier call, which may be read-only, to the folder in which the next call continues."""
    if source.resolve() == out.resolve():
        return
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (out / name).unlink(missing_ok=True)
        if (source / name).exists():
            shutil.copyfile(source / name, out / name)
    print(f"continuing with the files of {source}", flush=True)
