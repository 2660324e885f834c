"""The checks of what a library cannot bring: Python, the processor, the compiler, the disk, memory and the terminal."""

import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

from fastcifar.system import caches, machine, quiet
from fastcifar.system.doctor.finding import Finding, finding

GIB = 1 << 30
NEEDED_DISK = 4 * GIB  # bytes, for the dataset in three formats and the runs of one experiment
NEEDED_MEMORY = 4 * GIB  # bytes, for the images, torch and the pipelines' buffers


def python() -> Finding:
    return Finding("Python", True, f"{platform.python_version()}, {sys.executable}", required=True)


def bfloat16() -> Finding:
    having = sorted(machine.cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})
    detail = ", ".join(having) or f"{machine.cpu_model()} has no bfloat16 instructions"
    return finding("bfloat16 on the CPU", bool(having), detail, "train without --amp: float32 is likely faster here")


def numba_cache() -> Finding:
    """Check for a writable cache folder; without one, the kernels are compiled into a temporary folder."""
    refusals, folders = [], caches.numba_folders()
    for folder in folders[:1] if caches.NUMBA in os.environ else folders:  # numba uses the first that it can write to
        reason = caches.refusal(folder)
        if not reason:
            return Finding("numba's cache", True, f"{folder} can be written")
        refusals.append(f"{folder}: {reason}")
    return Finding("numba's cache", False, "; ".join(refusals), f"set {caches.NUMBA} to a folder of yours")


def compiler() -> Finding:
    """Check for a C++ compiler and Python.h: torch.compile writes C++ code and compiles it on this machine."""
    chosen = os.environ.get("CXX")
    names = [chosen] if chosen else ["g++", "clang++"]
    compiler = next((path for path in map(shutil.which, names) if path), None)
    header = Path(sysconfig.get_path("include"), "Python.h")
    lacking = [*([] if compiler else [" or ".join(names)]), *([] if header.exists() else [str(header)])]
    detail = f"{compiler}, with Python.h" if not lacking else f"not here: {', '.join(lacking)}"
    cure = f"torch.compile needs both: apt-get install g++ python{sys.version_info[0]}.{sys.version_info[1]}-dev"
    return finding("C++ compiler", not lacking, detail, cure)


def disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    detail = f"{free / GIB:.1f} GiB free in {Path.cwd()}"
    return finding("disk", free >= NEEDED_DISK, detail, f"free {NEEDED_DISK // GIB} GiB, or work in another folder")


def memory() -> Finding:
    size = machine.memory_bytes()
    cure = f"{NEEDED_MEMORY // GIB} GiB are advised: choose smaller batches and one run at a time"
    return finding("memory", size >= NEEDED_MEMORY, f"{size / GIB:.1f} GiB", cure)


def quietness() -> Finding:
    """Check for what would spoil a benchmark, such as busy programs. Nothing else of ours may work at that time."""
    bad = [check for check in quiet.look() if not check.ok]
    detail = "; ".join(f"{check.name}: {check.detail}" for check in bad) or "nothing would spoil them"
    return finding("benchmarks", not bad, detail, "; ".join(check.cure for check in bad))


def terminal() -> Finding:
    encoding = sys.stdout.encoding
    width = f"{shutil.get_terminal_size().columns} columns" if sys.stdout.isatty() else "not a terminal: plain output"
    ok = encoding.lower().replace("-", "") == "utf8"
    return finding("terminal", ok, f"{width}, {encoding}", "set PYTHONUTF8=1, or choose a UTF-8 locale")
