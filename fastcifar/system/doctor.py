"""The checks of ``fastcifar doctor``: what this machine can run, and the cure for each part that is missing.

Each library is imported in a separate process, since a broken library may abort the process instead of raising.
"""

import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from fastcifar.system import machine

GIB = 1 << 30
NEEDED_DISK = 4 * GIB  # bytes, for the dataset in three formats and the runs of one experiment
NEEDED_MEMORY = 4 * GIB  # bytes, for the images, torch and the pipelines' buffers
RETRY = "make install tries again and says why it fails; without a checkout: pip install 'fastcifar[ffcv,dali]'"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    name: the part that was checked. ok: whether it works. detail: its version or state, or the reason of the failure.
    cure: the step that repairs it; empty if ok. required: False for a part that fastcifar can run without; the cure
    then says what is lost.
    """

    name: str
    ok: bool
    detail: str
    cure: str = ""
    required: bool = False


def diagnose() -> list[Finding]:
    """Run every check once. It takes seconds, about as long as importing torch and FFCV, and changes nothing."""
    checks: list[Callable[[], Finding]] = [
        _python,
        _torch,
        _cuda,
        _bfloat16,
        _numba,
        _numba_cache,
        _triton,
        _ffcv,
        _dali,
        _py7zr,
        _ray,
        _tensorboard,
        _compiler,
        _disk,
        _memory,
        _terminal,
    ]
    with ThreadPoolExecutor(machine.usable_cores()) as pool:
        return list(pool.map(lambda check: check(), checks))


def doctor_rows(findings: list[Finding]) -> list[dict[str, Any]]:
    """Return the findings as dicts for JSON: name, ok, detail, cure, required."""
    return [asdict(finding) for finding in findings]


def doctor_table(findings: list[Finding]) -> Table:
    """Return the findings as a table for the terminal, with the cure below the detail."""
    drawn = Table("", "part", "what was found", show_edge=False, pad_edge=False)
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[red]missing[/]" if finding.required else "[yellow]without[/]"
        seen = finding.detail if finding.ok else f"{finding.detail}\n→ {finding.cure}"
        drawn.add_row(mark, finding.name, escape(seen))
    return drawn


def probe(code: str, timeout: float = 120.0) -> tuple[bool, str]:
    """Run Python code in a new process; return whether it succeeded, and its output or the reason of its failure.

    timeout: in seconds. The reason is the last line of the error, or the signal that ended the process.
    """
    try:
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return False, f"no answer in {timeout:g} s"
    if ran.returncode == 0:
        return True, ran.stdout.strip()
    if ran.returncode < 0:
        return False, f"the process was ended by {signal.Signals(-ran.returncode).name}"
    lines = ran.stderr.strip().splitlines()
    return False, lines[-1] if lines else f"exit status {ran.returncode}"


def _finding(name: str, ok: bool, detail: str, cure: str, *, required: bool = False) -> Finding:
    return Finding(name, ok, detail, "" if ok else cure, required)


def _library(
    name: str, module: str, cure: str, *, required: bool = False, shown: str = "module.__version__"
) -> Finding:
    ok, detail = probe(f"import importlib; module = importlib.import_module({module!r}); print({shown})")
    return _finding(name, ok, detail, cure, required=required)


def _python() -> Finding:
    return Finding("Python", True, f"{platform.python_version()}, {sys.executable}", required=True)


def _torch() -> Finding:
    shown = "f'{module.__version__}, {module.get_num_threads()} threads'"
    return _library("torch", "torch", "make install", required=True, shown=shown)


def _cuda() -> Finding:
    code = """
import torch
if torch.version.cuda is None:
    raise SystemExit("this torch is built for the CPU alone")
torch.cuda.init()
for i in range(torch.cuda.device_count()):
    seen = torch.cuda.get_device_properties(i)
    kind = "in hardware" if torch.cuda.is_bf16_supported(including_emulation=False) else "only emulated"
    print(f"{seen.name}, {seen.total_memory / 2**30:.0f} GiB, capability {seen.major}.{seen.minor}, bfloat16 {kind}")
"""
    cure = "everything runs on the CPU; for a GPU, install NVIDIA's driver and a CUDA build of torch"
    return _finding("CUDA", *probe(code), cure)


def _bfloat16() -> Finding:
    having = sorted(machine.cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})
    detail = ", ".join(having) or f"{machine.cpu_model()} has no bfloat16 instructions"
    return _finding("bfloat16 on the CPU", bool(having), detail, "train without --amp: float32 is likely faster here")


def _numba() -> Finding:
    return _library("numba", "numba", "make install", required=True)


def _numba_cache() -> Finding:
    """Check for a writable cache folder; without one, every process compiles the kernels again."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    kernels = [machine.PACKAGE / "kernels", machine.CHECKOUT / "kernels"]  # installed, or in a checkout
    in_tree = next(folder for folder in kernels if folder.is_dir())
    per_user = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "numba"
    refusals = []
    for folder in [Path(chosen)] if chosen else [in_tree, per_user]:  # numba uses the first folder that it can write to
        reason = _refusal(folder)
        if not reason:
            return Finding("numba's cache", True, f"{folder} can be written")
        refusals.append(f"{folder}: {reason}")
    return Finding("numba's cache", False, "; ".join(refusals), "set NUMBA_CACHE_DIR to a folder of yours")


def _refusal(folder: Path) -> str:
    """Return why no file can be made in a folder or its nearest existing parent; empty if one can."""
    try:
        with tempfile.TemporaryFile(dir=next(part for part in [folder, *folder.parents] if part.exists())):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _triton() -> Finding:
    return _library("Triton", "triton", "it comes with torch on Linux, and is used on CUDA devices alone")


def _ffcv() -> Finding:
    cure = f"{RETRY}; its build needs g++, pkg-config, libopencv-dev and libturbojpeg0-dev (Debian's names)"
    return _library("FFCV", "ffcv", cure, shown="__import__('importlib.metadata').metadata.version('ffcv')")


def _dali() -> Finding:
    return _library("DALI", "nvidia.dali.fn", RETRY, shown="__import__('nvidia.dali').dali.__version__")


def _py7zr() -> Finding:
    return _library("py7zr", "py7zr", "only Kaggle's .7z files need it: pip install 'fastcifar[kaggle]'")


def _ray() -> Finding:
    return _library("Ray", "ray", "only `fastcifar grid --executor ray` needs it: pip install 'fastcifar[ray]'")


def _tensorboard() -> Finding:
    cure = "only `--log tensorboard` needs it: pip install 'fastcifar[tensorboard]'"
    return _library("TensorBoard", "tensorboard", cure)


def _compiler() -> Finding:
    """Check for a C++ compiler and Python.h: torch.compile writes C++ code and compiles it on this machine."""
    chosen = os.environ.get("CXX")
    names = [chosen] if chosen else ["g++", "clang++"]
    compiler = next((path for path in map(shutil.which, names) if path), None)
    header = Path(sysconfig.get_path("include"), "Python.h")
    lacking = [*([] if compiler else [" or ".join(names)]), *([] if header.exists() else [str(header)])]
    detail = f"{compiler}, with Python.h" if not lacking else f"not here: {', '.join(lacking)}"
    cure = f"torch.compile needs both: apt-get install g++ python{sys.version_info[0]}.{sys.version_info[1]}-dev"
    return _finding("C++ compiler", not lacking, detail, cure)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    detail = f"{free / GIB:.1f} GiB free in {Path.cwd()}"
    return _finding("disk", free >= NEEDED_DISK, detail, f"free {NEEDED_DISK // GIB} GiB, or work in another folder")


def _memory() -> Finding:
    size = machine.memory_bytes()
    cure = f"{NEEDED_MEMORY // GIB} GiB are advised: choose smaller batches and one run at a time"
    return _finding("memory", size >= NEEDED_MEMORY, f"{size / GIB:.1f} GiB", cure)


def _terminal() -> Finding:
    encoding = sys.stdout.encoding
    width = f"{shutil.get_terminal_size().columns} columns" if sys.stdout.isatty() else "not a terminal: plain output"
    ok = encoding.lower().replace("-", "") == "utf8"
    return _finding("terminal", ok, f"{width}, {encoding}", "set PYTHONUTF8=1, or choose a UTF-8 locale")
