"""Make .venv and install fastcifar into it, for ``make install`` on a bare machine. Uses the standard library only.

torch and the other required packages must install; otherwise this stops with exit status 1. FFCV, DALI and Chromium are
optional: where one cannot be installed, the reason is printed and the installation continues. ``.venv/installed`` is
written last, as make's mark of success. ``make install`` always runs everything again, so it retries what failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = str(VENV / "bin" / "python")
HERE = f"python{sys.version_info[0]}.{sys.version_info[1]}"

NOISE = ("Requirement already satisfied", "Collecting ", "Obtaining dependency", "Using cached")  # hidden pip lines


def run(*command: str) -> tuple[bool, str]:
    """Run a command and show its output. Returns whether it succeeded, and its last lines."""
    last: deque[str] = deque(maxlen=8)
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() and not line.lstrip().startswith(NOISE):
                print("  " + line.rstrip(), flush=True)
                last.append(line.rstrip())
    return process.returncode == 0, "\n".join(last)


def succeeds(*command: str) -> bool:
    """Return whether a command exists and exits with status 0. Its output is not shown."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def make_venv() -> None:
    """Create .venv, also where the present one cannot run pip (because of a removed Python or an interrupted
    attempt).
    """
    if succeeds(PYTHON, "-m", "pip", "--version"):
        return
    heading(f"making .venv with {HERE}")
    ok, why = run(sys.executable, "-m", "venv", "--clear", str(VENV))
    if not ok:
        sys.exit(
            f"{why}\n\nCould not make .venv: this Python comes without venv or ensurepip.\n"
            f"On Debian or Ubuntu: apt-get install {HERE}-venv     elsewhere: choose another with make PYTHON=..."
        )


def pip_install(extras: str) -> tuple[bool, str]:
    """Install the checkout as editable, with the named extras. Returns whether it succeeded, and pip's last lines."""
    options = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off")
    return run(PYTHON, "-m", "pip", "install", *options, "-e", f".[{extras}]")


def missing_packages() -> list[str]:
    """Return the Debian packages that FFCV's build needs and this machine lacks."""
    present = {
        "pkg-config": shutil.which("pkg-config") is not None,
        "g++": any(shutil.which(name) for name in ("c++", "g++", "clang++")),
        "libopencv-dev": succeeds("pkg-config", "--exists", "opencv4"),
        "libturbojpeg0-dev": succeeds("pkg-config", "--exists", "libturbojpeg"),
        f"{HERE}-dev": Path(sysconfig.get_path("include"), "Python.h").exists(),
    }
    return [name for name, here in present.items() if not here]


def install_system_libraries() -> str:
    """Install the packages that FFCV's build needs, if possible. Returns the obstacle, or an empty text."""
    return apt_install(missing_packages(), "its build needs")


def install_browser() -> str:
    """Install Chromium for the tests of the report's page, if possible. Returns the obstacle, or an empty text."""
    needed = {"chromium": "chromium", "chromium-driver": "chromedriver"}
    missing = [package for package, program in needed.items() if shutil.which(program) is None]
    return apt_install(missing, "the tests of the report's page are skipped without")


def apt_install(missing: list[str], needs: str) -> str:
    """Install Debian packages, if possible. Returns the obstacle, which begins with ``needs``, or an empty text."""
    if not missing:
        return ""
    names = " ".join(missing)
    if shutil.which("apt-get") is None:
        return f"{needs} these Debian packages or their equivalents: {names}; there is no apt-get here"
    if os.geteuid() == 0:
        root = []
    elif succeeds("sudo", "-n", "true"):
        root = ["sudo", "-n"]
    else:
        return f"{needs} {names}, and only root may install them: sudo apt-get install {names}"
    heading(f"installing system packages: {names}")
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "Acquire::http::Timeout=20"]
    run(*apt, "update")
    ok, why = run(*apt, "install", "-y", "--no-install-recommends", *missing)
    return "" if ok else f"{needs} {names}, which apt-get could not install:\n{why}"


def install_optional(extra: str, module: str) -> str:
    """Install an extra and import its module. Returns the reason of a failure, or an empty text."""
    ok, why = pip_install(extra)
    if not ok:
        return "pip could not install it:\n" + why
    # Import in another process: an installed package can still lack a shared library, and may abort the process.
    ok, why = run(PYTHON, "-c", f"import {module}")
    return "" if ok else f"it is installed, but `import {module}` fails:\n" + why


def main() -> None:
    # This file must start on any Python 3, to print this message.
    if sys.version_info < (3, 10):  # noqa: UP036
        sys.exit(f"fastcifar needs Python 3.10 or newer, and this is {HERE}; name another: make PYTHON=python3.11 ...")
    started = time.monotonic()
    make_venv()
    heading("installing fastcifar, torch and the development tools (torch alone is several GB)")
    ok, _ = pip_install("dev,kaggle")
    if not ok:
        sys.exit("\nfastcifar cannot be used without these; pip's reason is above.")

    left_out: dict[str, str] = {}
    reason = "" if succeeds(PYTHON, "-c", "import ffcv") else install_system_libraries()
    if not reason:
        heading("installing FFCV (optional; built from source)")
        reason = install_optional("ffcv", "ffcv")
    if reason:
        left_out["FFCV"] = reason
    heading("installing DALI (optional)")
    reason = install_optional("dali", "nvidia.dali.fn")
    if reason:
        left_out["DALI"] = reason

    reason = install_browser()
    if reason:
        left_out["Chromium"] = reason

    (VENV / "installed").touch()
    heading(f"fastcifar is installed in .venv, after {time.monotonic() - started:.0f} s")
    for part in ("FFCV", "DALI", "Chromium"):
        print(
            f"{part}: " + ("left out: " + left_out[part].replace("\n", "\n      ") if part in left_out else "installed")
        )
    if left_out:
        print("Everything else works without these. When the cause is removed, run: make install\n")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
