"""A pytest plugin for machines that are lent for minutes: it writes a line of JSON as soon as a test has ended.

    python -m pytest -p kept_tests --keep tests.jsonl

A test file that imports a library of OPTIONAL which is not installed is skipped, and its line names the library. Any
other error during collection remains an error. A session in which no test has passed fails.
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
REASON = 300  # characters kept of a test's reason


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep", type=Path, help="file of JSON lines to which results are appended")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Keeper(config.getoption("keep"), hasattr(config, "workerinput")), "keeper")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    call = getattr(report, "call", None)
    library = None if call is None or call.excinfo is None else missing(call.excinfo.value)
    if library is not None:
        del report.call  # type: ignore[attr-defined]  # pytest would otherwise show it as an exception
        report.outcome, report.longrepr = "skipped", (report.nodeid, 0, f"Skipped: {library} is not installed")
    return report


def missing(error: BaseException | None) -> str | None:
    """Return the library of OPTIONAL that an import did not find; None where the error has another cause."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            for library in OPTIONAL:
                lacks, named = f"{error.name}.", f"{library}."  # the library, a part or a parent of it
                if (lacks.startswith(named) or named.startswith(lacks)) and not _installed(library):
                    return library
        error = error.__cause__
    return None


def _installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:  # the parent package is not installed
        return False


class Keeper:
    """The writer of the lines. It works in xdist's main process, to which the workers report their tests."""

    def __init__(self, path: Path | None, is_worker: bool) -> None:
        self._path, self._silent, self._passed = path, is_worker, 0
        self._seconds: dict[str, float] = {}
        self._told: set[str] = set()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.passed or self._silent or report.nodeid in self._told:  # every worker reports it
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
    """Return one line: the reason of a skip, or the last line of an error."""
    shown = report.longrepr
    if isinstance(shown, tuple):
        return str(shown[2]).removeprefix("Skipped: ")[:REASON]
    crash = getattr(shown, "reprcrash", None)
    text = str(crash.message) if crash is not None else str(shown)
    lines = [line.removeprefix("E ").strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if crash is not None else lines[-1])[:REASON] if lines else ""
