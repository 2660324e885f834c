"""What doctor says of a machine: of this one, and of machines that lack something."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console

from fastcifar.system import doctor, machine
from fastcifar.system.doctor import Finding


def printed(findings: list[Finding], width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(doctor.doctor_table(findings))
    return out.getvalue()


@pytest.mark.whole
def test_this_machine_has_what_is_required() -> None:
    findings = doctor.diagnose()
    names = [finding.name for finding in findings]
    assert len(set(names)) == len(names)
    assert {"Python", "torch", "CUDA", "numba", "Triton", "FFCV", "DALI", "py7zr", "Ray", "TensorBoard"} <= set(names)
    assert {"C++ compiler", "disk"} <= set(names)
    assert [finding.name for finding in findings if finding.required and not finding.ok] == []
    for finding in findings:
        assert finding.detail
        assert bool(finding.cure) != finding.ok, finding  # a cure where, and only where, something is amiss
    rows = doctor.doctor_rows(findings)
    assert json.loads(json.dumps(rows)) == rows
    assert [row["name"] for row in rows] == names


def test_a_probe_gives_the_output_or_the_reason() -> None:
    assert doctor.probe("print(6 * 7)") == (True, "42")
    assert doctor.probe("import no_such_module") == (False, "ModuleNotFoundError: No module named 'no_such_module'")
    assert doctor.probe("raise SystemExit('not for the CPU')") == (False, "not for the CPU")
    assert doctor.probe("raise SystemExit(3)") == (False, "exit status 3")
    assert doctor.probe("import os; os.abort()") == (False, "the process was ended by SIGABRT")
    assert doctor.probe("import time; time.sleep(60)", timeout=0.5) == (False, "no answer in 0.5 s")


def test_a_library_that_cannot_be_imported_is_told_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ffcv.py").write_text("raise ImportError('libopencv_core.so.406: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = doctor._ffcv()
    assert (found.ok, found.required) == (False, False)
    assert "libopencv_core.so.406" in found.detail
    assert "libopencv-dev" in found.cure


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    found = doctor._compiler()
    assert not found.ok
    assert "g++ or clang++" in found.detail
    assert "apt-get install" in found.cure
    monkeypatch.setenv("CXX", "my-own-compiler")
    assert "my-own-compiler" in doctor._compiler().detail


def test_numba_s_cache_folder_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "not" / "there" / "yet"))
    assert doctor._numba_cache().ok
    assert list(tmp_path.iterdir()) == []  # looking leaves nothing behind
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(file / "below"))
    found = doctor._numba_cache()
    assert not found.ok
    assert "Not a directory" in found.detail
    assert "NUMBA_CACHE_DIR" in found.cure


def test_bfloat16_is_told_from_the_processor_s_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx2", "avx512_bf16", "amx_bf16"}))
    assert doctor._bfloat16() == Finding("bfloat16 on the CPU", True, "amx_bf16, avx512_bf16")
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx2"}))
    monkeypatch.setattr(machine, "cpu_model", lambda: "Old CPU")
    found = doctor._bfloat16()
    assert not found.ok
    assert found.detail.startswith("Old CPU")


def test_little_memory_and_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: doctor.GIB)
    assert (doctor._memory().ok, doctor._memory().detail) == (False, "1.0 GiB")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": doctor.GIB}))
    found = doctor._disk()
    assert not found.ok
    assert found.detail.startswith("1.0 GiB free in")


def test_a_terminal_that_is_not_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    found = doctor._terminal()
    assert not found.ok
    assert "PYTHONUTF8" in found.cure
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="UTF-8"))
    assert doctor._terminal().ok


def test_the_table_shows_marks_details_and_cures_as_plain_text() -> None:
    text = printed(
        [
            Finding("fine", True, "1.0"),
            Finding("optional", False, "no module [ffcv]", "pip install 'fastcifar[ffcv]'"),
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
    assert "→ pip install 'fastcifar[ffcv]'" in cure
    assert "missing" in needed
