"""A torchvision that does not belong to torch: every command that needs it says so in one line, with the cure."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT
from support.broken import broken_torchvision

from fastcifar.data.convert import convert
from fastcifar.system import cures, machine

TINY = ("--data", "{data}", "--epochs", "1", "--seeds", "0", "--device", "cpu")
COMMANDS = {
    "train": ("train", "--exp", "4", *TINY, "--model", "resnet18", "--out", "{out}"),
    "grid": ("grid", "--exp", "4", "--data", "{data}", "--epochs", "1", "--device", "cpu", "--out", "{out}"),
    "pipeline": ("train", "--exp", "2", *TINY, "--pipeline", "torchvision", "--out", "{out}"),
    "convert": ("convert", "cifar10", "{out}"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    convert("synthetic:200", folder / "data")
    (folder / "broken").mkdir()
    broken_torchvision(folder / "broken")
    return folder


def run(place: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(place / "broken"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(place / "cache")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=place, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.whole
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_it_in_one_line(place: Path, name: str) -> None:
    words = {"data": str(place / "data"), "out": str(place / "out")}
    ran = run(place, "-m", "fastcifar", *(word.format(**words) for word in COMMANDS[name]))
    assert ran.returncode in (1, 2), ran.stdout + ran.stderr
    line = ran.stderr.splitlines()[-1]
    assert "operator torchvision::nms does not exist" in line
    assert line.endswith(cures.torchvision())
    assert "Traceback" not in ran.stderr


@pytest.mark.whole
def test_bench_gives_it_as_the_reason(place: Path) -> None:
    asked = ("--quick", "--pipelines", "torchvision", "--data", "data", "--batch-sizes", "16", "--repeats", "1")
    ran = run(place, "-m", "fastcifar", "bench", *asked)
    reason = next(line for line in ran.stdout.splitlines() if line.startswith("torchvision has no speed"))
    assert f"operator torchvision::nms does not exist); {cures.torchvision()}" in reason
    assert "Traceback" not in ran.stdout + ran.stderr


@pytest.mark.whole
def test_the_library_raises_the_same_sentence(place: Path) -> None:
    code = "import fastcifar; fastcifar.Loader('data', 'training', pipeline='torchvision')"
    line = run(place, "-c", code).stderr.splitlines()[-1]
    assert line.startswith("fastcifar.errors.UsageError: ")
    assert "operator torchvision::nms does not exist" in line


@pytest.mark.whole
def test_what_needs_no_torchvision_works(place: Path) -> None:
    ran = run(place, "-m", "fastcifar", "preview", "--data", "data", "--recipe", "erasing", "--out", "seen.png")
    assert ran.returncode == 0, ran.stderr


def test_the_cure_names_the_index_that_torch_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "version", {"torch": "2.13.0+cpu"}.get)
    assert cures.torchvision().endswith(" torch torchvision --index-url https://download.pytorch.org/whl/cpu")
    monkeypatch.setattr(machine, "version", {"torch": "2.13.0"}.get)
    assert cures.torchvision().endswith(" torch torchvision")


def test_nobody_else_imports_torchvision() -> None:
    """Only system/vision.py, so that there is one place which turns its errors into a sentence."""
    sources = [path for folder in ("fastcifar", "kernels", "pipelines") for path in (ROOT / folder).rglob("*.py")]
    found = [
        path.relative_to(ROOT).as_posix()
        for path in sources
        if re.search(r"^\s*(import|from) torchvision", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert found == ["fastcifar/system/vision.py"]
