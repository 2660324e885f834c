"""Paths that people give: ~ is a home folder wherever a path enters the library."""

import sys
from pathlib import Path

import pytest
from support.written_runs import spec_of

import fastcifar
from fastcifar.errors import UsageError
from fastcifar.models.published import weights_of
from fastcifar.runs.directory import RunDirectory
from fastcifar.system.foreign import imported
from fastcifar.system.paths import path_of


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(elsewhere)
    return folder


def test_a_leading_tilde_is_the_home_folder(home):
    assert path_of("~") == path_of(Path("~")) == home
    assert path_of("~/runs/a~b") == path_of(Path("~/runs/a~b")) == home / "runs/a~b"
    assert path_of("~root/x").is_absolute()
    assert path_of("runs/~") == Path("runs/~")
    assert path_of("") == path_of(".") == Path()


def test_a_name_that_begins_with_a_tilde_is_written_with_its_folder(home):
    written = path_of("./~backup")
    assert written == Path.cwd() / "~backup"
    assert path_of(written) == path_of(path_of(written)) == written
    with pytest.raises(UsageError, match=r"^path '~nobody_here/x' begins with .* or \./~nobody_here/x for a file of"):
        path_of("~nobody_here/x")


def test_the_library_takes_paths_below_the_home_folder(home, monkeypatch):
    written = fastcifar.convert("synthetic:50", "~/data")
    assert written.path == home / "data"
    assert fastcifar.convert("~/data", "~/copy").sha256 == written.sha256
    assert fastcifar.Dataset.open("~/data").path == fastcifar.Dataset.open(Path("~/data")).path == home / "data"
    with fastcifar.Loader("~/data", batch_size=8, device="cpu") as loader:
        assert loader.dataset.path == home / "data"
    assert RunDirectory.of(spec_of(), Path("~/runs")).path.is_relative_to(home / "runs")
    monkeypatch.setattr(sys, "path", [*sys.path])
    (home / "below_home.py").write_text("ANSWER = 42\n")
    assert imported("~/below_home.py", "module").ANSWER == 42
    del sys.modules["below_home"]
    with pytest.raises(UsageError, match=rf"^weights {home}/absent\.pth: No such file"):
        weights_of("resnet18", "~/absent.pth")
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.whole
def test_train_run_takes_paths_below_the_home_folder(home):
    fastcifar.convert("synthetic:50", "~/data")
    answer = fastcifar.train_run(data="~/data", out="~/runs", epochs=1, device="cpu", recipe="none", batch_size=32)
    assert Path(answer["directory"]).is_relative_to(home / "runs")
    assert list(Path.cwd().iterdir()) == []
