"""Steps, each in a process of its own, under one budget of time. What they leave lies in one folder and outlives them.

Rows, results of tests, logs and profiles are files that the steps append to while they run. Once a step has ended,
what an earlier attempt of it left there goes, provided that it left something new.
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
FULL = 300.0  # seconds of a call; a step's limit is its share of so many
RESERVE = 3.0  # seconds at the end of a call that no step is given: for the summary and the table
ROWS, TESTS, PROFILE, SUMMARY = "rows.jsonl", "tests.jsonl", "profile.txt", "summary.json"
FILES = (ROWS, "tests.log", TESTS, PROFILE, "bench.log", SUMMARY)
"""in the folder, at most"""
NEVER = "its turn did not come"


@dataclass(frozen=True)
class Step:
    """A command, Python's arguments, and what holds for it. ``{out}`` in an argument is the folder."""

    name: str
    does: str
    arguments: tuple[str, ...]
    limit: float
    """seconds until it is ended, in a call of FULL seconds; its share of a longer or shorter one"""
    least: float = 10.0
    """seconds below which it is not begun: it would have nothing to show"""
    depends: tuple[str, ...] = ()
    """globs from the checkout's root: files that its result depends on"""
    log: str = "bench.log"

    def fingerprint(self) -> str:
        """Of the command and of the files that the result depends on."""
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
    """passed, failed, timed out, not begun, skipped; running, until it has ended"""
    why: str = ""
    status: int | None = None
    """the exit status, negative where a signal ended it"""
    seconds: float = 0.0
    limit: float = 0.0
    rows: int = 0
    """that it wrote, one a test where it runs tests"""
    tail: list[str] = field(default_factory=list)
    """the last it printed, where it did not pass"""
    fingerprint: str = ""
    commit: str | None = None
    gpus: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Budget:
    """Seconds of a call, from when it began."""

    seconds: float = FULL
    began: float = field(default_factory=time.monotonic)

    def spent(self) -> float:
        return time.monotonic() - self.began

    def left(self) -> float:
        """For steps."""
        return self.seconds - RESERVE - self.spent()

    def limit(self, step: Step) -> float:
        """What a step may take now: in a short call what it needs to show anything, rather than its share."""
        return min(max(step.limit * self.seconds / FULL, step.least), self.left())


class Check:
    """One call: the steps in their order, and the summary, which is rewritten whenever something has changed."""

    def __init__(self, planned: Sequence[Step], out: Path, budget: Budget, about: Mapping[str, Any], resume: bool):
        """about: facts for the summary: commit, and environment as `measure.environment` has it. resume: go
        on with what is in the folder; else it is removed, and nothing that is not of a check.
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
        """Run the steps that have not passed as they are now, or those that ``only`` names; whether all have passed."""
        for step in self._planned:
            before = self.results[step.name]
            if only and step.name not in only:
                if before.why == NEVER:
                    self._note(Result(step.name, "skipped", "not asked for"))
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
                why = f"{left:.0f} s left, and it needs {step.least:g} to show anything"
                earlier = f"; before: {before.outcome}" if before.status is not None else ""
                self._note(replace(now, outcome="not begun", why=why + earlier, rows=before.rows, tail=before.tail))
            else:
                self._take(step, now)
        return self.passed()

    def passed(self) -> bool:
        """Whether every step has passed, or was not asked for."""
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
    """Run a step in the checkout, its output into its log: outcome, exit status and why.

    A step that is ended takes with it what it started, and it ends when this process does, however that ends.
    """
    arguments = [argument.replace("{out}", str(out)) for argument in step.arguments]
    # tools: for our plugin of pytest, which it finds by name; those that a lent machine happens to have stay out
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
    except BaseException:  # Ctrl-C: the step has a session of its own and does not hear of it
        processes.end(process)
        raise
    processes.end_session(process.pid)  # what it left behind
    return ("failed" if status else "passed"), status, ""


def read_results(out: Path) -> dict[str, Result]:
    """How the steps of an earlier call ended, by name; nothing where there is no summary."""
    path = out / SUMMARY
    if not path.exists():
        return {}
    known = {each.name for each in fields(Result)}
    found = {
        each["name"]: Result(**{key: value for key, value in each.items() if key in known})
        for each in json.loads(path.read_bytes())["steps"]
    }
    return {
        name: replace(result, outcome="timed out", why="the check itself was killed")
        if result.outcome == "running"
        else result
        for name, result in found.items()
    }


def copied(source: Path, out: Path) -> None:
    """Copy an earlier call's files, which may be read-only, to where the next one goes on with them."""
    if source.resolve() == out.resolve():
        return
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (out / name).unlink(missing_ok=True)
        if (source / name).exists():
            shutil.copyfile(source / name, out / name)
    print(f"goes on with the files of {source}", flush=True)
