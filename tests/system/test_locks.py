"""Other systems than Linux: the import works, and a command says what is missing or does its work."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

WINDOWS = """
import platform, sys
import rich.console, typer.rich_utils, typer.completion, torch  # libraries that would look at sys.platform
sys.modules["fcntl"] = sys.modules["resource"] = None
sys.platform, platform.system = "win32", lambda: "Windows"
"""
MACOS = """
import builtins, io, os, pathlib, platform, sys
import numba, sklearn, torch, torchvision, matplotlib.pyplot  # libraries that would look at sys.platform
sys.platform, platform.system = "darwin", lambda: "Darwin"
del os.sched_getaffinity, os.sched_setaffinity

def refusing(real):
    def opened(file, *rest, **more):
        if str(file).startswith(("/proc", "/sys")):
            raise FileNotFoundError(2, "No such file or directory", str(file))
        return real(file, *rest, **more)
    return opened

builtins.open = io.open = refusing(open)
"""
MAIN = """
from fastcifar.cli.app import main
main()
"""


def run(folder: Path, system: str, *arguments: str, code: str = MAIN) -> "subprocess.CompletedProcess[str]":
    before = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = {list(arguments)!r}"
    return subprocess.run(
        [sys.executable, "-c", before + system + code], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.whole
@pytest.mark.parametrize("command", ["train --exp 2", "grid --exp 2", "demo", "convert synthetic:200 data", "doctor"])
def test_on_windows_a_command_says_what_to_do(tmp_path: Path, command: str) -> None:
    ran = run(tmp_path, WINDOWS, *command.split())
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: fastcifar needs Linux, and this is Windows")
    assert ran.stderr.endswith("install WSL 2 (wsl --install) and use fastcifar there as on Linux\n")
    assert list(tmp_path.iterdir()) == []


def test_on_windows_the_import_works(tmp_path: Path) -> None:
    ran = run(tmp_path, WINDOWS, code="import fastcifar; print(fastcifar.__version__)\nfastcifar.train_run")
    assert ran.stdout
    assert ran.stderr.splitlines()[-1].startswith("fastcifar.errors.UsageError: fastcifar needs Linux")


@pytest.mark.slow
def test_without_proc_and_sys_as_on_macos_a_run_is_trained(tmp_path: Path) -> None:
    for command in (
        "convert synthetic:300 data",
        "train --exp 2 --data data --seeds 0 --epochs 1 --device cpu --compile none",
        "runs",
    ):
        ran = run(tmp_path, MACOS, *command.split())
        assert ran.returncode == 0, ran.stderr
    assert len(list(tmp_path.glob("runs/exp2/*/summary.json"))) == 1
