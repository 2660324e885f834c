"""The installer: what it installs for whom, what the screen shows, and what is left after an interruption.

It runs in a folder of its own, with stand-ins for .venv's Python, apt-get and sudo.
"""

import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from support import ROOT

from tools import parts

HERE = f"python{sys.version_info[0]}.{sys.version_info[1]}"
SCREEN = 12  # lines
PYTHON = """#!/bin/sh
echo "python $*" >> "$CALLS"
case "$*" in
    *"$FAILS"*) for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "fault $i"; done; exit 1;;
    *"$SLEEPS"*) sleep 60;;
    *"import ffcv") [ -e "$CALLS.ffcv" ] || exit 1;;
    *"[ffcv]") : > "$CALLS.ffcv";;
    *nvidia-dali-cuda130*) [ -e "$CALLS.cuda130" ] || exit 1;;
esac
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo "Collecting package $i"; done
"""
OTHER = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$0 $*" in *"$FAILS"*) echo "E: Unable to locate package"; exit 100;; esac
"""


class Place:
    """A checkout with a stand-in for .venv's Python, and a PATH with stand-ins alone."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.calls, self._patch = folder, folder / "calls", monkeypatch
        for name in ("install.py", "parts.py"):
            (folder / "tools").mkdir(exist_ok=True)
            shutil.copy(ROOT / "tools" / name, folder / "tools" / name)
        self.programs = folder / "programs"
        self.programs.mkdir()
        for name in ("env", "basename", "sleep"):
            (self.programs / name).symlink_to(shutil.which(name) or name)
        self.python = self.program(folder / ".venv" / "bin" / "python", PYTHON)
        self.variables = {"CALLS": str(self.calls), "FAILS": "no such text", "SLEEPS": "no such text"}
        self.variables["PATH"] = str(self.programs)

    def program(self, path: Path, code: str = OTHER) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        path.chmod(0o755)
        return path

    def install(self, *, root: bool = True, apt: bool = True) -> ModuleType:
        """Return tools/install.py of the folder, afresh. root: the user is root. apt: apt-get exists."""
        if apt:
            self.program(self.programs / "apt-get")
        for name, value in self.variables.items():
            self._patch.setenv(name, value)
        self._patch.setattr(os, "geteuid", lambda: 0 if root else 1000)
        self._patch.setattr(sys, "path", list(sys.path))
        spec = importlib.util.spec_from_file_location("install", self.folder / "tools" / "install.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._patch.setattr(signal, "signal", lambda *_: None)
        return module

    def called(self) -> str:
        return self.calls.read_text() if self.calls.exists() else ""

    @property
    def log(self) -> str:
        return (self.folder / "build" / "install.log").read_text()

    def has(self, mark: str) -> bool:
        return (self.folder / ".venv" / mark).exists()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def test_the_demo_s_installation_is_a_screen_and_has_no_development_tools(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.install().main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 80
    for part in ("environment .venv", "torch and fastcifar", "DALI", "FFCV's wheel", "FFCV (optional)"):
        assert any(line.startswith(f"  {part}") and line.endswith(" s") for line in lines), part
    called = place.called()
    assert all(word not in called for word in ("[dev", "chromium", "kaggle"))
    assert "install -y --no-install-recommends pkg-config g++ libopencv-dev" in called
    assert called.count("update\n") == 1
    assert place.has("installed")
    assert not place.has("developing")
    assert not place.has("unfinished")
    assert place.log.count("Collecting package 20") > 3


def test_the_tests_need_more(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.folder / "build").mkdir()
    (place.folder / "build" / "install.log").write_text("of the demo's installation\n")
    place.install().main(developing=True)
    assert "of the demo's installation" in place.log
    assert "[dev,kaggle]" in place.called()
    assert "chromium chromium-driver" in place.called()
    assert "[ffcv]" not in place.called()
    assert place.has("developing")
    assert len(capsys.readouterr().out.splitlines()) <= SCREEN


def test_an_optional_part_that_fails_is_shown_and_the_rest_is_installed(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.variables["FAILS"] = "[dali]"
    place.install().main()
    out = capsys.readouterr().out
    assert "left out" in next(line for line in out.splitlines() if line.startswith("  DALI"))
    assert "    pip could not install it:\n    fault 5\n" in out
    assert "fault 12" in out
    assert "fault 4\n" not in out
    assert "fault 4\n" in place.log
    assert "make install" in out
    assert "[ffcv]" in place.called()
    assert place.has("installed")


def test_a_required_part_that_fails_ends_the_installation(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.variables["FAILS"] = f"-e {place.folder}"
    (place.folder / ".venv" / "installed").touch()
    with pytest.raises(SystemExit, match=r"cannot be used without it. All output is in build/install.log"):
        place.install().main()
    assert "fault 12" in capsys.readouterr().out
    assert not place.has("installed")
    assert place.has("unfinished")  # a full disk ends pip in the middle of a package


def test_a_library_that_is_installed_and_cannot_be_imported(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.variables["FAILS"] = "import nvidia.dali.fn"
    place.install().main()
    assert "it is installed, but `import nvidia.dali.fn` fails" in capsys.readouterr().out


def test_the_other_build_of_dali_is_kept(place: Place) -> None:
    Path(f"{place.calls}.cuda130").touch()
    place.install().main()
    assert "[dali]" not in place.called()
    assert "import nvidia.dali.fn" in place.called()


def test_without_rights_the_user_is_told_what_to_type(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.install(root=False).main()
    out = capsys.readouterr().out
    assert "sudo apt-get install pkg-config g++ libopencv-dev libturbojpeg0-dev" in out
    assert "apt-get" not in place.called()
    assert "[dali]" in place.called()
    assert place.has("installed")


def test_sudo_that_asks_nothing_is_used(place: Place) -> None:
    place.program(place.programs / "sudo")
    place.install(root=False).main()
    assert "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get" in place.called()


def test_without_apt_the_packages_are_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.install(apt=False).main(developing=True)
    assert "their equivalents: chromium chromium-driver; there is no apt-get here" in capsys.readouterr().out


def test_what_apt_refuses_is_passed_on(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.variables["FAILS"] = "apt-get -q -o Acquire::http::Timeout=20 install"
    place.install().main()
    assert "which apt-get could not install:\n    E: Unable to locate package\n" in capsys.readouterr().out


@pytest.mark.parametrize("root", [True, False])
def test_a_python_without_ensurepip(
    root: bool, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place.python.unlink()
    install = place.install(root=root)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    if root:
        monkeypatch.setattr(sys, "executable", str(place.program(place.programs / "python3", PYTHON)))
        place.program(place.folder / ".venv" / "bin" / "python", PYTHON)
        (place.folder / ".venv" / "unfinished").touch()  # the stand-in for the interrupted attempt's .venv
        install.main()
        assert f"install -y --no-install-recommends {HERE}-venv\n" in place.called()
        assert f"python -m venv --clear {place.folder / '.venv'}" in place.called()
        return
    with pytest.raises(SystemExit):
        install.main()
    assert capsys.readouterr().out.count(f"sudo apt-get install {HERE}-venv") == 1  # said once
    assert place.called() == ""


def test_an_interrupted_installation_of_the_tools_is_begun_anew(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package of torch that pip left half-written looks whole to the next pip."""
    install = place.install()
    monkeypatch.setattr(sys, "executable", str(place.program(place.programs / "python3", PYTHON)))
    (place.folder / ".venv" / "unfinished").touch()
    install.main(developing=True)
    assert f"python -m venv --clear {place.folder / '.venv'}" in place.called()
    assert f"-e {place.folder}" in place.called()
    assert "[dev,kaggle]" in place.called()
    assert not place.has("unfinished")


def test_a_wheel_whose_import_fails_is_built_anew_next_time(place: Place) -> None:
    wheel = place.folder / "build" / "wheels" / f"ffcv-1.0.2-cp{HERE[6:].replace('.', '')}-linux.whl"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    place.variables["FAILS"] = "import ffcv"
    place.install().main()
    assert not wheel.exists()


def test_nothing_is_installed_where_nothing_is_missing(place: Place) -> None:
    for name in ("pkg-config", "g++", "chromium", "chromedriver"):
        place.program(place.programs / name)
    install = place.install()
    (place.folder / "Python.h").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(install.sysconfig, "get_path", lambda _: str(place.folder))
        assert install.missing_packages() == []
    install.main(developing=True)
    assert "apt-get" not in place.called()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_no_environment_that_is_believed(place: Place, number: int) -> None:
    place.variables["SLEEPS"] = f"-e {place.folder}"
    place.program(place.programs / "apt-get")
    process = subprocess.Popen(
        [sys.executable, place.folder / "tools" / "install.py"],
        env=os.environ | place.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell has it ignored
    )
    while "-e " not in place.called():
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert "Traceback" not in out
    assert place.has("unfinished")
    assert not place.has("installed")


def test_a_terminal_sees_the_seconds_pass(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with parts.Installation(tmp_path / "log", out) as installation:
        installation.end(installation.begin("long part", lambda part: time.sleep(1.2)))
    assert out.getvalue().count("\r") >= 3
    assert out.getvalue().endswith("\r\033[K" + f"  {'long part':<{parts.NAME}}   1 s\n")


def test_a_log_file_gets_a_line_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "QUIET", 0.3)
    out = io.StringIO()
    with parts.Installation(tmp_path / "log", out) as installation:
        installation.end(installation.begin("long part", lambda part: time.sleep(1)))
    assert 2 <= len(out.getvalue().splitlines()) <= 5
    assert "\r" not in out.getvalue()


def test_apt_get_is_never_ended(tmp_path: Path) -> None:
    slow = tmp_path / "apt-get"
    slow.write_text(f"#!/bin/sh\nsleep 1\ntouch {tmp_path / 'ended'}\n")
    slow.chmod(0o755)

    def update(part: parts.Part) -> None:
        part.command("env", str(slow), "apt-get")

    with parts.Installation(tmp_path / "log", io.StringIO()) as installation:
        installation.begin("apt", update)
        time.sleep(0.3)
    assert (tmp_path / "ended").exists()


def test_an_older_python_is_told_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    install = place.install()
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    with pytest.raises(SystemExit, match=r"fastcifar needs Python 3.10 or newer"):
        install.main()


@pytest.mark.parametrize(("target", "more"), [("demo", False), ("test", True), ("quick", True), ("wheel", True)])
def test_make_installs_the_development_tools_where_they_are_used(target: str, more: bool, tmp_path: Path) -> None:
    for path in ("Makefile", "setup.py", "tools/install.py", "tools/parts.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    planned = subprocess.run(["make", "-n", target], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "python3 tools/install.py\n" in planned
    assert ("python3 tools/install.py --developing\n" in planned) == more
