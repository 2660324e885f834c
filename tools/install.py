"""Make .venv and install fastcifar into it: what ``make install`` runs on a bare machine. Standard library only.

torch and the rest of what fastcifar stands on must install, or this stops with exit status 1. FFCV, DALI and Chromium
are optional: where one cannot be installed, this says which and why, and goes on. ``.venv/installed`` is written last,
so that make knows; ``make install`` runs everything again, and so tries again what failed.
"""

from __future__ import annotations

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

NOISE = ("Requirement already satisfied", "Collecting ", "Obtaining dependency", "Using cached")  # of pip's output


def run(*command: str) -> tuple[bool, str]:
    """Run a command, showing its output; returns whether it succeeded and its last lines."""
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
    """Whether a command exists and exits with status 0; its output is not shown."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def make_venv() -> None:
    """Create .venv, or create it anew where the one there cannot run pip (a removed Python, a broken attempt)."""
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
    """Install the checkout, editable, with the named extras; returns whether it worked and pip's last lines."""
    options = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off")
    return run(PYTHON, "-m", "pip", "install", *options, "-e", f".[{extras}]")


def missing_packages() -> list[str]:
    """The Debian packages that FFCV's build needs and that are not here."""
    present = {
        "pkg-config": shutil.which("pkg-config") is not None,
        "g++": any(shutil.which(name) for name in ("c++", "g++", "clang++")),
        "libopencv-dev": succeeds("pkg-config", "--exists", "opencv4"),
        "libturbojpeg0-dev": succeeds("pkg-config", "--exists", "libturbojpeg"),
        f"{HERE}-dev": Path(sysconfig.get_path("include"), "Python.h").exists(),
    }
    return [name for name, here in present.items() if not here]


def install_system_libraries() -> str:
    """Install what FFCV's build needs, where that may be done; returns what stands in the way, or nothing."""
    return apt_install(missing_packages(), "its build needs")


def install_browser() -> str:
    """Install what the tests of the report's page open it in, where that may be done; what stands in the way."""
    needed = {"chromium": "chromium", "chromium-driver": "chromedriver"}
    missing = [package for package, program in needed.items() if shutil.which(program) is None]
    return apt_install(missing, "the tests of the report's page are skipped without")


def apt_install(missing: list[str], needs: str) -> str:
    """Install Debian packages, where that may be done; returns what stands in the way, beginning with ``needs``."""
    if not missing:
        return ""
    names = " ".join(missing)
    if shutil.which("apt-get") is None:
        return f"{needs} what Debian calls {names}; there is no apt-get here to install them with"
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
    """Install an extra and import what it brings; returns why that failed, or nothing."""
    ok, why = pip_install(extra)
    if not ok:
        return "pip could not install it:\n" + why
    # An import of its own: what installs can still lack a shared library, and may abort the process.
    ok, why = run(PYTHON, "-c", f"import {module}")
    return "" if ok else f"it is installed, but `import {module}` fails:\n" + why


def main() -> None:
    # This file must start on any Python 3 to say so.
    if sys.version_info < (3, 10):  # noqa: UP036
        sys.exit(f"fastcifar needs Python 3.10 or newer, and this is {HERE}: make PYTHON=python3.11 ...")
    started = time.monotonic()
    make_venv()
    heading("installing fastcifar, torch and the development tools (torch alone is several GB)")
    ok, _ = pip_install("dev,kaggle")
    if not ok:
        sys.exit("\nfastcifar cannot be used without these; pip says why above.")

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
        print("Everything else works without. Once the cause is gone: make install\n")


if __name__ == "__main__":
    main()
