"""Options that are lists: what is read from them, and how it is said that they are none. Paths: ~ is expanded."""

from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from fastcifar.cli.app import app
from fastcifar.cli.options import integers, listed, positive
from fastcifar.errors import UsageError


def test_a_list_is_read_part_by_part():
    assert listed("a, b,,c ,", "--of", str.upper, "letters") == ["A", "B", "C"]
    assert listed("0.1,1e-2", "--momenta", float, "numbers") == [0.1, 0.01]
    assert listed("", "--momenta", float, "numbers") == []
    with pytest.raises(UsageError, match=r"^--momenta '0.1,fast' is not a list of numbers such as 0\.1,0\.01$"):
        listed("0.1,fast", "--momenta", float, "numbers such as 0.1,0.01")


def test_integers_are_different_and_there_is_one():
    assert integers("2, 0,1") == [2, 0, 1]
    assert integers("-3") == [-3]
    for text in ("", ",", "1,1", "1,one", "1.5"):
        with pytest.raises(UsageError, match=f"^--tries '{text}' is not a list of different integers such as 0,1,2$"):
            integers(text, "--tries")


def test_sizes_are_positive():
    assert listed("64,512,64", "--batch-sizes", positive, "positive integers") == [64, 512, 64]
    for text in ("0", "64,-1", "64,x", "6.4"):
        with pytest.raises(UsageError, match=f"^--batch-sizes '{text}' is not a list of positive integers$"):
            listed(text, "--batch-sizes", positive, "positive integers")


def commands():
    """Yield the function of each command of the program."""
    pending = [app]
    while pending:
        here = pending.pop()
        yield from (command.callback for command in here.registered_commands)
        pending += [group.typer_instance for group in here.registered_groups]


def path_parameters():
    """Yield (command, parameter, option) for each parameter of a command whose type has a Path in it."""
    for function in commands():
        for name, hint in get_type_hints(function, include_extras=True).items():
            if "Path" in str(get_args(hint)[:1]):
                (option,) = hint.__metadata__
                yield function.__name__, name, option


def test_every_path_of_the_command_line_may_begin_with_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/jane")
    found = list(path_parameters())
    assert {"out", "data", "config", "runs", "bench", "plot", "compare", "csv_file"} <= {name for _, name, _ in found}
    assert len(found) > 25
    for command, name, option in found:
        assert option.parser is not None, f"{name} of {command} has no parser=path_of, so that ~ stays as it is"
        assert option.parser("~/x") == Path("/home/of/jane/x")


@pytest.mark.whole
def test_no_folder_is_called_tilde(command, tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    assert command("convert", "synthetic:50", "~/data").code == 0
    assert command("preview", "--data=~/data", "--out=~/picture.png").code == 0
    (home / "options.yaml").write_text("exp: 2\ndata: ~/data\nout: ~/runs\nseeds: 0\nepochs: 1\ndevice: cpu\n")
    assert command("train", "--config=~/options.yaml", "--set", "recipe=none").code == 0
    assert command("runs", "--out=~/runs", "--csv=~/runs.csv").code == 0
    (run,) = (home / "runs/exp2").glob("*/run.json")
    answer = command("predict", f"~/{run.parent.relative_to(home)}", "--data=~/data", "--out=~/labels.csv")
    assert answer.code == 0, answer.err
    names = {"data", "picture.png", "options.yaml", "runs", "runs.csv", "labels.csv", "labels.png"}
    assert {path.name for path in home.iterdir()} == names
    assert list(here.iterdir()) == []
