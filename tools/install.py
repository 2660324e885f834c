"""Make .venv and install fastcifar into it, for ``make`` on a bare machine. Uses the standard library only.

Without an option this installs what ``make demo`` needs: fastcifar with torch, which must install, and FFCV and DALI
where they can be had. ``--developing`` adds what lint, types and tests need; Chromium is optional there. Where an
optional part cannot be installed, the reason is printed and the installation goes on. The screen gets a line for each
part, and ``build/install.log`` what the commands print.

``.venv/installed`` and ``.venv/developing`` are written last, as make's marks of success. ``make install`` always runs
everything again, so it retries what was left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.parts import Installation, LeftOut, Part  # noqa: E402

VENV = ROOT / ".venv"
UNFINISHED = VENV / "unfinished"  # exists while pip changes .venv: a package that pip left half-written looks whole
WHEELS = ROOT / "build" / "wheels"  # FFCV's wheel, built while torch is fetched
LOG = ROOT / "build" / "install.log"
PYTHON = str(VENV / "bin" / "python")
HERE = f"python{sys.version_info[0]}.{sys.version_info[1]}"
TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"  # in the names of wheels for this Python
# Python compiles a module when it is first imported; compiling all of torch's in advance takes half a minute.
PIP = (PYTHON, "-m", "pip", "--no-input", "--disable-pip-version-check")
INSTALL = (*PIP, "install", "--progress-bar", "off", "--no-compile", "--no-warn-script-location")
UPDATED: list[str] = []  # not empty where this process has updated apt's lists
OTHER_DALI = "nvidia-dali-cuda130"  # owns the same files as the extra dali's nvidia-dali-cuda120


def succeeds(*command: str) -> bool:
    """Return whether a command exists and exits with status 0. Its output is not shown."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def make_venv(part: Part) -> None:
    """Create .venv, also where the present one is of an interrupted attempt or its Python was removed."""
    if succeeds(PYTHON, "-m", "pip", "--version") and not UNFINISHED.exists():
        return
    if importlib.util.find_spec("ensurepip") is None:  # Debian has it in a package of its own
        apt_install(part, [f"{HERE}-venv"], "this Python cannot make an environment. It needs")
    ok, why = part.command(sys.executable, "-m", "venv", "--clear", str(VENV))
    if not ok:
        raise LeftOut(f"{why}\nThis Python cannot make an environment; choose another: make PYTHON=...")


def pip_install(part: Part, *what: str) -> None:
    """Install with pip. Raises LeftOut with pip's last lines."""
    UNFINISHED.touch()
    ok, why = part.command(*INSTALL, *what)
    UNFINISHED.unlink()  # not where this process is interrupted: then .venv is made anew
    if not ok:
        raise LeftOut(f"pip could not install it:\n{why}")


def install_package(part: Part) -> None:
    """Install the checkout as editable, with torch and the other packages that it requires.

    Later parts name an extra of the installed fastcifar, for which pip need not build it again.
    """
    try:
        pip_install(part, "-e", str(ROOT))
    except LeftOut:
        UNFINISHED.touch()  # where the disk is full, pip ends in the middle of a package
        raise


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


def build_ffcv(part: Part) -> None:
    """Build FFCV's wheel with the packages that its build needs, without a change to .venv."""
    if succeeds(PYTHON, "-c", "import ffcv") or list(WHEELS.glob(f"ffcv-*-{TAG}-*.whl")):
        return
    apt_install(part, missing_packages(), "its build needs")
    WHEELS.mkdir(parents=True, exist_ok=True)
    ok, why = part.command(*PIP, "wheel", "--progress-bar", "off", "--no-deps", "--wheel-dir", str(WHEELS), "ffcv")
    if not ok:
        raise LeftOut(f"pip could not build it:\n{why}")


def install_ffcv(part: Part) -> None:
    """Install FFCV's wheel and what it imports."""
    pip_install(part, "--find-links", str(WHEELS), "fastcifar[ffcv]")
    try:
        require_import(part, "ffcv")
    except LeftOut:  # a wheel of another OpenCV, for example: the next attempt builds it anew
        for wheel in WHEELS.glob("ffcv-*"):
            wheel.unlink()
        raise


def install_dali(part: Part) -> None:
    """Install DALI, unless its CUDA 13 build is there."""
    if not succeeds(PYTHON, "-c", f"import importlib.metadata as m; m.version({OTHER_DALI!r})"):
        pip_install(part, "fastcifar[dali]")
    require_import(part, "nvidia.dali.fn")


def require_import(part: Part, module: str) -> None:
    """Import a module in a new process, as it may lack a shared library, or abort. Raises LeftOut with the reason."""
    ok, why = part.command(PYTHON, "-c", f"import {module}")
    if not ok:
        raise LeftOut(f"it is installed, but `import {module}` fails:\n{why}")


def install_development(part: Part) -> None:
    """Install what lint, types and tests need."""
    pip_install(part, "fastcifar[dev,kaggle]")


def install_browser(part: Part) -> None:
    """Install Chromium for the tests of the report's page."""
    needed = {"chromium": "chromium", "chromium-driver": "chromedriver"}
    missing = [package for package, program in needed.items() if shutil.which(program) is None]
    apt_install(part, missing, "the tests of the report's page are skipped without")


def apt_install(part: Part, missing: list[str], needs: str) -> None:
    """Install Debian packages. Raises LeftOut, whose message begins with ``needs``, where that is not possible."""
    if not missing:
        return
    names = " ".join(missing)
    if shutil.which("apt-get") is None:
        raise LeftOut(f"{needs} these Debian packages or their equivalents: {names}; there is no apt-get here")
    if os.geteuid() == 0:
        root = []
    elif succeeds("sudo", "-n", "true"):
        root = ["sudo", "-n"]
    else:
        raise LeftOut(f"{needs} {names}, and only root may install them: sudo apt-get install {names}")
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "Acquire::http::Timeout=20"]
    if not UPDATED:
        part.command(*apt, "update")
        UPDATED.append("update")
    ok, why = part.command(*apt, "install", "-y", "--no-install-recommends", *missing)
    if not ok:
        raise LeftOut(f"{needs} {names}, which apt-get could not install:\n{why}")


def require(part: Part) -> None:
    """End the program where a part that fastcifar cannot do without was left out."""
    if part.reason:
        sys.exit(f"\nfastcifar cannot be used without it. All output is in {LOG.relative_to(ROOT)}.")


def install(installation: Installation) -> list[Part]:
    """Install what the demo needs, and return the optional parts. FFCV is built while pip fetches torch."""
    require(installation.end(installation.begin("environment .venv", make_venv)))
    built = installation.begin("FFCV's wheel, meanwhile", build_ffcv)
    require(installation.end(installation.begin("torch and fastcifar (gigabytes)", install_package)))
    dali = installation.end(installation.begin("DALI (optional)", install_dali))
    if installation.end(built).reason:
        return [dali, built]
    return [dali, installation.end(installation.begin("FFCV (optional)", install_ffcv))]


def install_more(installation: Installation) -> list[Part]:
    """Add to .venv what lint, types and tests need, and return the optional parts."""
    if UNFINISHED.exists():  # an earlier attempt was interrupted
        install(installation)
    require(installation.end(installation.begin("what lint, types and tests need", install_development)))
    return [installation.end(installation.begin("Chromium (optional)", install_browser))]


def main(developing: bool = False) -> None:
    # This file must start on any Python 3, to print this message.
    if sys.version_info < (3, 10):  # noqa: UP036
        sys.exit(f"fastcifar needs Python 3.10 or newer, and this is {HERE}; name another: make PYTHON=python3.11 ...")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started, mark = time.monotonic(), VENV / ("developing" if developing else "installed")
    mark.unlink(missing_ok=True)
    print(f"installing into .venv; what the commands print goes to {LOG.relative_to(ROOT)}", flush=True)
    try:
        with Installation(LOG, append=developing) as installation:
            optional = (install_more if developing else install)(installation)
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the same command begins again")
    mark.touch()
    if any(part.reason for part in optional):
        print("Everything else works without what was left out. When the cause is removed: make install")
    print(f"installed after {time.monotonic() - started:.0f} s\n", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--developing", action="store_true", help="add to .venv what lint, types and tests need")
    main(parser.parse_args().developing)
