"""The installer's decisions: what is lacking, who may install it, and what a command's end tells."""

import importlib.util
import os
import shutil
import sys
from types import ModuleType

import pytest
from support import ROOT


@pytest.fixture
def install() -> ModuleType:
    """tools/install.py, which is a script and no part of the package, afresh for each test."""
    spec = importlib.util.spec_from_file_location("install", ROOT / "tools" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_command_s_last_lines_are_kept(install: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    code = "for i in range(20): print('line', i)\nprint('Requirement already satisfied: numpy')\nraise SystemExit(3)"
    ok, last = install.run(sys.executable, "-c", code)
    assert not ok
    assert last.splitlines() == [f"line {i}" for i in range(12, 20)]
    assert "line 0" in capfd.readouterr().out
    assert install.run(sys.executable, "-c", "") == (True, "")


def test_on_a_bare_machine_all_is_missing(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(install.sysconfig, "get_path", lambda _: "/nowhere")
    python_dev = f"python{sys.version_info[0]}.{sys.version_info[1]}-dev"
    assert install.missing_packages() == ["pkg-config", "g++", "libopencv-dev", "libturbojpeg0-dev", python_dev]
    assert "there is no apt-get" in install.install_system_libraries()
    assert "these Debian packages or their equivalents: chromium chromium-driver" in install.install_browser()


def test_without_rights_the_user_is_told_what_to_type(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "missing_packages", lambda: ["libopencv-dev"])
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "sudo" else f"/usr/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "sudo apt-get install libopencv-dev" in install.install_system_libraries()


def test_root_installs_and_a_refusal_is_passed_on(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, ...]] = []
    answers = [(False, "no mirror"), (False, "E: Unable to locate package libopencv-dev")]

    def run(*command: str) -> tuple[bool, str]:
        ran.append(command)
        return answers[len(ran) - 1]

    monkeypatch.setattr(install, "missing_packages", lambda: ["libopencv-dev"])
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(install, "run", run)
    reason = install.install_system_libraries()
    assert "Unable to locate package" in reason
    assert ran[0][-1] == "update"
    assert ran[1][-1] == "libopencv-dev"
    assert "sudo" not in ran[1]


def test_nothing_is_installed_where_nothing_is_missing(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "missing_packages", list)
    monkeypatch.setattr(install, "run", lambda *_: pytest.fail("nothing was missing"))
    assert install.install_system_libraries() == ""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert install.install_browser() == ""
