"""``fastcifar demo``: the pipelines' speeds, results, a picture, and what to type next."""

import sys

import pytest
import torch

from fastcifar.cli import demo
from fastcifar.data.convert import convert
from fastcifar.errors import UsageError
from fastcifar.runs.directory import find_runs


def row(pipeline, speed, reason=None, **more):
    made = {"pipeline": pipeline, "images_per_s": speed, "reason": reason, "device": "cpu", "threads": 2}
    return {**made, "verified": True, "differs": None, **more}


@pytest.fixture
def raced(monkeypatch):
    """The contestants that the demo timed, each alone; none of them is timed really."""
    alone = []

    def hold(contestants, rules):
        (contestant,) = contestants
        alone.append(contestant)
        if contestant.pipeline == "ffcv":
            return [row("ffcv", None, "FFCV is not installed: pip install it")]
        return [
            row(contestant.pipeline, {"resident": 400_000, "dali": 30_000, "torchvision": 16_000}[contestant.pipeline])
        ]

    monkeypatch.setattr("fastcifar.throughput.heat.hold", hold)
    return alone


@pytest.mark.whole
def test_demo_shows_speeds_results_a_picture_and_what_to_type_next(command, tmp_path, monkeypatch, raced):
    monkeypatch.setattr(demo, "EPOCHS", 2)
    monkeypatch.setattr(demo, "command_name", lambda: "fastcifar")
    monkeypatch.setattr("fastcifar.data.formats.extra_formats", only_dali)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    converted = []
    monkeypatch.setattr(
        "fastcifar.data.convert.convert",
        lambda source, folder, formats, **more: converted.append(formats) or convert(source, folder, **more),
    )
    answer = command("demo", tmp_path / "demo")
    assert answer.code == 0
    assert converted == [["raw", "dali"]]
    notes = answer.err.splitlines()
    assert notes[0].startswith("converting scikit-learn's handwritten digits into ")
    assert notes[1] == "going on without the ffcv form: no compiler here"
    assert [line.split()[1] for line in notes[2:6]] == ["resident:", "FFCV:", "DALI:", "DataLoader:"]
    assert notes[6].startswith("training a CNN on the digits")
    assert [contestant.pipeline for contestant in raced] == list(demo.PIPELINES)
    assert len({(each.recipe, each.batch_size, each.threads, each.data) for each in raced}) == 1
    lines = answer.out.splitlines()
    assert "resident        400,000 " + 34 * "█" in lines
    assert "DataLoader       16,000 █" in lines
    assert "FFCV               none" in lines
    assert "FFCV: FFCV is not installed: pip install it" in lines
    assert "All of them made the same batches: their pixels were compared while they were timed." in lines
    assert " ± " in answer.out
    assert f"picture: {tmp_path / 'demo' / 'curves.png'}" in lines
    assert (tmp_path / "demo" / "curves.png").exists()
    assert "the shaded band around it is one standard deviation" in answer.out
    assert "  fastcifar convert cifar10 data/cifar10" in lines
    assert "  fastcifar bench --quick --data data/cifar10" in lines
    assert len(find_runs(tmp_path / "demo" / "runs")) == 3
    assert command("demo", tmp_path / "demo").code == 0  # again, over what is there


def test_pixels_are_called_equal_where_they_are(capsys):
    demo.show_pipelines([row("resident", 400_000), row("torchvision", 16_000, differs="rotation")])
    assert "same batches" not in capsys.readouterr().out
    demo.show_pipelines([row("resident", 400_000), row("torchvision", None, "it crashed")])
    assert "same batches" not in capsys.readouterr().out


def test_the_bars_fit_into_60_columns(capsys):
    demo.show_pipelines([row(name, 9_999_999) for name in demo.PIPELINES])
    bars = [line for line in capsys.readouterr().out.splitlines() if "9,999,999" in line]
    assert len(bars) == 4
    assert max(map(len, bars)) <= 60


def test_the_command_is_named_as_it_can_be_typed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert demo.command_name() == "fastcifar"
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "fastcifar").touch()
    assert demo.command_name() == ".venv/bin/fastcifar"
    (tmp_path / "fastcifar").touch(mode=0o755)
    assert demo.command_name() == "fastcifar"


def only_dali(names):
    if "ffcv" in names:
        raise UsageError("no compiler here")
    return {}
