"""What doctor says of a machine: of this one, and of machines that lack something."""

import ast
import io
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console
from support import ROOT
from support.broken import broken_torchvision

from fastcifar.cli.doctor import doctor_table
from fastcifar.system import doctor, machine
from fastcifar.system.doctor import Finding, libraries, surroundings
from fastcifar.system.doctor.finding import probe


def printed(findings: list[Finding], width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(doctor_table(findings))
    return out.getvalue()


@pytest.mark.whole
def test_this_machine_has_what_is_required() -> None:
    findings = doctor.diagnose()
    names = [finding.name for finding in findings]
    assert len(set(names)) == len(names)
    assert {"Python", "torch", "CUDA", "numba", "Triton", "FFCV", "DALI", "py7zr", "Ray", "TensorBoard"} <= set(names)
    assert {"C++ compiler", "disk", "torchvision", "other libraries"} <= set(names)
    assert [finding.name for finding in findings if finding.required and not finding.ok] == []
    for finding in findings:
        assert finding.detail
        assert bool(finding.cure) != finding.ok, finding  # a cure where, and only where, something is amiss
    rows = doctor.doctor_rows(findings)
    assert json.loads(json.dumps(rows)) == rows
    assert [row["name"] for row in rows] == names


def test_a_probe_gives_the_output_or_the_reason() -> None:
    assert probe("print(6 * 7)") == (True, "42")
    assert probe("import no_such_module") == (False, "ModuleNotFoundError: No module named 'no_such_module'")
    assert probe("raise SystemExit('not for the CPU')") == (False, "not for the CPU")
    assert probe("raise SystemExit(3)") == (False, "exit status 3")
    assert probe("import os; os.abort()") == (False, "the process was ended by SIGABRT")
    assert probe("import time; time.sleep(60)", timeout=0.5) == (False, "no answer in 0.5 s")


def test_a_library_that_cannot_be_imported_is_told_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ffcv.py").write_text("raise ImportError('libopencv_core.so.406: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = libraries.ffcv()
    assert (found.ok, found.required) == (False, False)
    assert "libopencv_core.so.406" in found.detail
    assert "libopencv-dev" in found.cure


def test_every_required_package_is_checked() -> None:
    own = {"torch", "torchvision", "numba"}  # these have a check of their own
    required = {re.split("[<>=]", line, maxsplit=1)[0] for line in machine_requirements()}
    assert required == own | set(libraries.OTHERS)


def machine_requirements() -> list[str]:
    """Return the packages that setup.py requires, with their versions."""
    source = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    for node in source.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "REQUIRED":
            return list(ast.literal_eval(node.value))
    raise AssertionError("setup.py has no REQUIRED")


def test_a_torchvision_of_another_build_is_told_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_torchvision(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(machine, "version", lambda name: {"torch": "2.13.0+cpu", "torchvision": "0.28.0"}[name])
    found = libraries.torchvision()
    assert (found.ok, found.required) == (False, True)
    assert found.detail == (
        "0.28.0 does not work with torch 2.13.0+cpu: RuntimeError: operator torchvision::nms does not exist"
    )
    assert found.cure.endswith("torch torchvision --index-url https://download.pytorch.org/whl/cpu")


def test_other_libraries_are_named_where_they_are_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jinja2.py").write_text("raise ImportError('no MarkupSafe')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(libraries, "OTHERS", {"jinja2": "jinja2", "typer": "typer"})
    found = libraries.others()
    assert (found.ok, found.detail, found.required) == (False, "jinja2: ImportError: no MarkupSafe", True)
    assert found.cure == "pip install --force-reinstall jinja2"


def test_two_builds_of_dali_are_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"nvidia-dali-cuda120": "2.4.0", "nvidia-dali-cuda130": "2.4.0"}
    monkeypatch.setattr(machine, "version", both.get)
    found = libraries.dali()
    assert not found.ok
    assert "nvidia-dali-cuda130 and nvidia-dali-cuda120 are installed" in found.detail
    assert "pip uninstall -y nvidia-dali-cuda130 nvidia-dali-cuda120" in found.cure
    seen = []
    monkeypatch.setattr(libraries, "library", lambda *_, shown: seen.append(shown))
    for build in both:
        monkeypatch.setattr(machine, "version", {build: "2.4.0"}.get)
        libraries.dali()
        assert build in seen[-1]


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    found = surroundings.compiler()
    assert not found.ok
    assert "g++ or clang++" in found.detail
    assert "apt-get install" in found.cure
    monkeypatch.setenv("CXX", "my-own-compiler")
    assert "my-own-compiler" in surroundings.compiler().detail


def test_numba_s_cache_folder_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "not" / "there" / "yet"))
    assert surroundings.numba_cache().ok
    assert list(tmp_path.iterdir()) == []  # looking leaves nothing behind
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(file / "below"))
    found = surroundings.numba_cache()
    assert not found.ok
    assert "Not a directory" in found.detail
    assert "NUMBA_CACHE_DIR" in found.cure


def test_bfloat16_is_told_from_the_processor_s_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx2", "avx512_bf16", "amx_bf16"}))
    assert surroundings.bfloat16() == Finding("bfloat16 on the CPU", True, "amx_bf16, avx512_bf16")
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx2"}))
    monkeypatch.setattr(machine, "cpu_model", lambda: "Old CPU")
    found = surroundings.bfloat16()
    assert not found.ok
    assert found.detail.startswith("Old CPU")


def test_little_memory_and_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: surroundings.GIB)
    assert (surroundings.memory().ok, surroundings.memory().detail) == (False, "1.0 GiB")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": surroundings.GIB}))
    found = surroundings.disk()
    assert not found.ok
    assert found.detail.startswith("1.0 GiB free in")


def test_a_terminal_that_is_not_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    found = surroundings.terminal()
    assert not found.ok
    assert "PYTHONUTF8" in found.cure
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="UTF-8"))
    assert surroundings.terminal().ok


def test_the_table_shows_marks_details_and_cures_as_plain_text() -> None:
    text = printed(
        [
            Finding("fine", True, "1.0"),
            Finding("optional", False, "no module [ffcv]", "pip install -e '.[ffcv]'"),
            Finding("needed", False, "gone", "make install", required=True),
        ]
    )
    fine, optional, cure, needed = (
        next(line for line in text.splitlines() if part in line)
        for part in ("fine", "optional", "pip install", "needed")
    )
    assert "ok" in fine
    assert "without" in optional
    assert "no module [ffcv]" in optional
    assert "→ pip install -e '.[ffcv]'" in cure
    assert "missing" in needed
