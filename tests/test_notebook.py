"""The notebook runs on a machine without a GPU, cell by cell, and is kept without outputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
TINY = "--quick --pipelines resident --batch-sizes 16 --seconds 0.05 --repeats 1"


def content():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def sources(**settings):
    """Return the code of the cells by their ids, with other values for the settings of the first one."""
    found = {cell["id"]: "".join(cell["source"]) for cell in content()["cells"] if cell["cell_type"] == "code"}
    lines = found["settings"].splitlines()
    for name, value in settings.items():
        (number,) = [n for n, line in enumerate(lines) if line.startswith(f"{name} = ")]
        lines[number] = f"{name} = {value!r}"
    return found | {"settings": "\n".join(lines)}


def test_it_is_a_clean_notebook_of_version_4():
    found = content()
    assert found.keys() == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    for cell in found["cells"]:
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert cell.keys() == {"cell_type", "id", "metadata", "source"} | code
        assert (cell["metadata"], cell.get("outputs", []), cell.get("execution_count")) == ({}, [], None)
        assert all(line.endswith("\n") for line in cell["source"][:-1])
    ids = [cell["id"] for cell in found["cells"]]
    assert len(set(ids)) == len(ids)
    assert 'REPOSITORY = ""' in sources()["settings"]  # nobody's address


def test_it_asks_for_the_repository():
    cells = sources()
    with pytest.raises(ValueError, match="set REPOSITORY in the cell above"):
        exec(cells["settings"] + "\n" + cells["install"], {})


@pytest.mark.parametrize("failing", [(), ("dali",)], ids=["all", "without-dali"])
def test_it_clones_and_installs_what_is_missing(failing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = []

    class Popen:
        stdout = ()

        def __init__(self, command, **_):
            ran.append(command)
            self.returncode = int("-c" in command or any(name in " ".join(command) for name in failing))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(subprocess, "Popen", Popen)
    cells = sources(REPOSITORY="https://example.org/fastcifar.git")
    exec(cells["settings"] + "\n" + cells["install"], {})
    checkout = str(tmp_path / "fastcifar-checkout")
    assert ran[0] == ["git", "clone", "--depth", "1", "https://example.org/fastcifar.git", checkout]
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    assert ran[2:] == [[*pip, f"{checkout}[dali]", "pytest"], *([[*pip, checkout, "pytest"]] if failing else [])]


@pytest.mark.slow
def test_it_runs_on_a_machine_without_a_gpu(tmp_path):
    cells = sources(REPOSITORY=str(ROOT), EXTRAS="", BENCH=TINY)
    program = tmp_path / "cells.py"
    program.write_text("\n\n".join(cells.values()), encoding="utf-8")
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": ""}
    ran = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "resident alone could be timed" in ran.stdout
    assert "The GPU check is left out here" in ran.stdout
    markdown = Path(tmp_path, "fastcifar-results", "result.md").read_text(encoding="utf-8")
    assert markdown in ran.stdout
    assert str(tmp_path) not in markdown
    assert ran.stdout.splitlines()[-1] == "files to attach, in fastcifar-results: throughput.jsonl"
