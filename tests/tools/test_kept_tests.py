"""The plugin that keeps each test's result: on a timeout, with several workers, and when files cannot be collected."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT

ONE = ["-p", "no:xdist"]
TWO = ["-p", "xdist", "-n", "2"]
MIXED = """
import pytest
def test_right(): pass
def test_wrong(): assert 1 == 2, "not so"
@pytest.mark.skip(reason="no device")
def test_skipped(): pass
@pytest.fixture
def broken(): raise OSError("no disk")
def test_set_up(broken): pass
@pytest.fixture
def ends():
    yield
    raise OSError("no end")
def test_torn_down(ends): pass
"""


def pytest_process(folder: Path, *options: str, **files: str) -> "subprocess.Popen[str]":
    """pytest with the plugin, on files of tests in a folder of its own."""
    for name, code in files.items():
        (folder / f"test_{name}.py").write_text(code)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "kept_tests", "--keep", "kept.jsonl",
               "--continue-on-collection-errors", *options]  # fmt: skip
    variables = {"PYTHONPATH": str(ROOT / "tools"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.Popen(command, cwd=folder, env=os.environ | variables, stdout=subprocess.PIPE, text=True)


def kept(folder: Path) -> dict[str, tuple[str, str]]:
    """Outcome and reason, by the test's own name or its file's."""
    path = folder / "kept.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    assert all(line["step"] == "tests" for line in lines)
    found = {line["nodeid"].rpartition("::")[2]: (line["outcome"], line["reason"]) for line in lines}
    assert len(found) + ("test_torn_down" in found) == len(lines)
    return found


def run(folder: Path, *options: str, **files: str) -> tuple[int, dict[str, tuple[str, str]], str]:
    process = pytest_process(folder, *options, **files)
    said = process.communicate()[0]
    return process.returncode, kept(folder), said


@pytest.mark.whole
@pytest.mark.parametrize("workers", [ONE, TWO], ids=["one", "two"])
def test_every_test_has_its_line(tmp_path, workers):
    status, found, _ = run(tmp_path, *workers, mixed=MIXED)
    assert status == 1
    assert found == {
        "test_right": ("passed", ""),
        "test_wrong": ("failed", "AssertionError: not so"),
        "test_skipped": ("skipped", "no device"),
        "test_set_up": ("error", "OSError: no disk"),
        "test_torn_down": ("error", "OSError: no end"),  # after it had passed
    }


@pytest.mark.whole
@pytest.mark.parametrize("workers", [ONE, TWO], ids=["one", "two"])
def test_a_file_that_lacks_a_library_is_skipped_by_name_and_no_other_fault_is(tmp_path, workers):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text("import nothing_of_the_kind")
    files = {
        "right": "def test_right(): pass",
        "lacks": "import jsonschema_is_not_here\n",
        "schema": "import nvidia.dali.no_such_part",
        "broken": "import ray\ndef test_broken(): pass",  # is installed, and fails
        "wrong": "def test_wrong(: pass",
        "differs": "import os\nraise RuntimeError(os.getpid())",  # from worker to worker
    }
    (tmp_path / "kept_tests.py").write_text(
        (ROOT / "tools" / "kept_tests.py").read_text().replace('"jsonschema"', '"jsonschema_is_not_here"')
    )  # in the folder of the tests, which comes first
    status, found, said = run(tmp_path, *workers, **files)
    assert status not in (0, 5), said
    assert found["test_right"] == ("passed", "")  # what cannot be collected costs the others nothing
    assert found["test_lacks.py"] == ("skipped", "jsonschema_is_not_here is not installed")
    for name in ("broken", "wrong", "schema", "differs"):
        assert found[f"test_{name}.py"][0] == "could not be collected"
    assert found["test_broken.py"][1] == "ModuleNotFoundError: No module named 'nothing_of_the_kind'"
    assert found["test_wrong.py"][1].startswith("SyntaxError")


def test_without_another_fault_a_file_that_is_skipped_is_no_failure(tmp_path):
    if importlib.util.find_spec("kornia") is not None:
        pytest.skip("kornia is installed")
    status, found, _ = run(tmp_path, *ONE, right="def test_right(): pass", lacks="import kornia")
    assert status == 0
    assert found["test_lacks.py"] == ("skipped", "kornia is not installed")


@pytest.mark.parametrize("workers", [ONE, TWO], ids=["one", "two"])
def test_nothing_but_skips_is_no_success(tmp_path, workers):
    code = "import pytest\n@pytest.mark.skip(reason='no device')\ndef test_a(): pass"
    status, found, said = run(tmp_path, *workers, skipped=code)
    assert (status, found["test_a"]) == (1, ("skipped", "no device"))
    assert "no test has passed" in said


@pytest.mark.parametrize("workers", [ONE, TWO], ids=["one", "two"])
def test_what_has_ended_is_kept_when_the_rest_is_killed(tmp_path, workers):
    code = "import time\ndef test_a(): pass\ndef test_b(): time.sleep(60)\ndef test_c(): time.sleep(60)"
    process = pytest_process(tmp_path, *workers, slow=code)
    until = time.monotonic() + 30
    while not kept(tmp_path):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert kept(tmp_path) == {"test_a": ("passed", "")}
