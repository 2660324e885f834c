"""A plugin of pytest for machines that are lent for minutes: of each test a line of JSON as soon as it has ended.

    python -m pytest -p kept_tests --keep tests.jsonl

A file of tests that imports a library of OPTIONAL which is not installed is skipped, by its name and the library's;
any other error while collecting stays one. A session in which no test has passed is no success.
"""

import importlib.util
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

OPTIONAL = (
    "ray", "selenium", "jsonschema", "sklearn", "scipy", "jinja2", "tensorboard", "timm", "py7zr", "ffcv",
    "nvidia.dali", "kornia",
)  # fmt: skip
REASON = 300  # characters of it


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep", type=Path, help="file of JSON lines that results are added to")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Keeper(config.getoption("keep"), hasattr(config, "workerinput")), "keeper")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    call = getattr(report, "call", None)
    library = None if call is None or call.excinfo is None else missing(call.excinfo.value)
    if library is not None:
        del report.call  # type: ignore[attr-defined]  # pytest would go on to show it as an exception
        report.outcome, report.longrepr = "skipped", (report.nodeid, 0, f"Skipped: {library} is not installed")
    return report


def missing(error: BaseException | None) -> str | None:
    """The library of OPTIONAL for want of which an import failed; None where it failed for another reason."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            for library in OPTIONAL:
                lacks, named = f"{error.name}.", f"{library}."  # the library, a part of it, or what it lies in
                if (lacks.startswith(named) or named.startswith(lacks)) and not _installed(library):
                    return library
        error = error.__cause__
    return None


def _installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:  # of what it lies in
        return False


class Keeper:
    """Writes the lines, in the process that hears of all tests: workers of xdist tell theirs to it."""

    def __init__(self, path: Path | None, is_worker: bool) -> None:
        self._path, self._silent, self._passed = path, is_worker, 0
        self._seconds: dict[str, float] = {}
        self._told: set[str] = set()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.passed or self._silent or report.nodeid in self._told:  # every worker tells of it
            return
        self._told.add(report.nodeid)
        self._keep(report.nodeid, "skipped" if report.skipped else "could not be collected", 0.0, _reason(report))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._silent:
            return
        seconds = self._seconds.pop(report.nodeid, 0.0) + report.duration
        if report.when == "call" or report.outcome != "passed":
            outcome = "error" if report.failed and report.when != "call" else report.outcome
            self._passed += outcome == "passed"
            self._keep(report.nodeid, outcome, seconds, "" if report.passed else _reason(report))
        elif report.when == "setup":
            self._seconds[report.nodeid] = seconds

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self._silent and not self._passed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._passed:
            terminalreporter.write_line("no test has passed")

    def _keep(self, nodeid: str, outcome: str, seconds: float, reason: str) -> None:
        if self._path is None:
            return
        line = {"step": "tests", "nodeid": nodeid, "outcome": outcome, "seconds": round(seconds, 3), "reason": reason}
        with self._path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")


def _reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    """In a line: of a skip its reason, of an error the last thing that was said."""
    shown = report.longrepr
    if isinstance(shown, tuple):
        return str(shown[2]).removeprefix("Skipped: ")[:REASON]
    crash = getattr(shown, "reprcrash", None)
    text = str(crash.message) if crash is not None else str(shown)
    lines = [line.removeprefix("E ").strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if crash is not None else lines[-1])[:REASON] if lines else ""
