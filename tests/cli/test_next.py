"""The command that is named at the end is one that this program takes, as it stands."""

import shlex
from types import SimpleNamespace

import pytest
import typer
from support.command import TINY
from support.specs import SPEC
from support.written_runs import rising, write_run

from fastcifar.cli.app import app
from fastcifar.grid.scheduler import Results
from fastcifar.grid.speeds import Kind, Speed
from fastcifar.show.console import command_name


def following(answer):
    """The arguments of the command that comes next. Its options and their values are parsed by the app itself."""
    assert answer.code in (0, 130), answer.err
    (line,) = [line for line in answer.err.splitlines() if line.startswith("next: ")]
    assert answer.err.splitlines()[-1] == line
    assert "next:" not in answer.out
    program, name, *arguments = shlex.split(line.removeprefix("next: "))
    assert program == command_name()
    group = typer.main.get_command(app)
    command = group.get_command(None, name)
    assert command is not None
    command.make_context(name, list(arguments))  # raises for an option that does not exist
    return [name, *arguments]


@pytest.fixture
def quick(monkeypatch):
    trained = SimpleNamespace(by_configuration=dict, draw_curves=lambda path: None)
    monkeypatch.setattr("fastcifar.training.session.run", lambda *_: trained)
    monkeypatch.setattr("fastcifar.grid.plan.train_grid", lambda *_: Results())
    monkeypatch.setattr("fastcifar.grid.speeds.Speeds.of", lambda _, specs: {
        kind: Speed(1e6, 1e6) for kind in map(Kind.of, specs)
    })  # fmt: skip


def test_convert_leads_to_train_and_train_to_runs(command, quick, tmp_path):
    data, out = tmp_path / "my data" / "noise", tmp_path / "out"
    answer = command("convert", "synthetic:20", data)
    assert following(answer) == ["train", "--exp", "2", "--data", str(data)]
    answer = command(*following(answer), "--out", out)
    step = following(answer)
    assert step == ["runs", "--out", str(out), "--only", "experiment=2", "--sort", "-val_accuracy"]
    write_run(out, SPEC, rising(0.5))
    assert command(*step).code == 0


def test_a_dry_run_leads_to_the_grid_and_a_grid_to_its_report(command, quick, synthetic, tmp_path):
    out = tmp_path / "out"
    arguments = ["grid", "--exp", "1", "--data", str(synthetic.path), "--out", str(out)]
    step = following(command(*arguments, "--dry-run", "--amp", "off"))
    assert step == [*arguments, "--amp", "off"]


def test_a_finished_grid_leads_to_its_report(command, quick, synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr("fastcifar.grid.plan.unfinished", lambda specs, out: [])
    out = tmp_path / "out"
    answer = command("grid", "--exp", "1", "--data", synthetic.path, "--out", out)
    assert following(answer) == ["report", "--runs", str(out), "--data", str(synthetic.path)]


@pytest.mark.parametrize("stopped", ["fastcifar.training.session.run", "fastcifar.grid.plan.train_grid"])
def test_what_was_interrupted_leads_to_the_same_command(command, quick, synthetic, tmp_path, monkeypatch, stopped):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastcifar.grid.plan.unfinished", lambda specs, out: [])
    monkeypatch.setattr(stopped, interrupted)
    name = "grid" if "grid" in stopped else "train"
    arguments = [name, "--exp", "1", "--data", str(synthetic.path), "--out", str(tmp_path / "a b")]
    answer = command(*arguments)
    assert answer.code == 130
    assert following(answer) == arguments


def test_preview_leads_to_train_with_the_recipe(command, synthetic, tmp_path):
    answer = command("preview", "--data", synthetic.path, "--rows", 1, "--columns", 1, "--out", tmp_path / "p.png")
    assert following(answer) == ["train", "--exp", "2", "--data", str(synthetic.path), "--set", "recipe=erasing"]


@pytest.mark.whole
def test_a_report_leads_to_its_page(command, tmp_path):
    write_run(tmp_path / "runs", SPEC, rising(0.5))
    answer = command("report", "--runs", tmp_path / "runs", "--out", tmp_path / "a report")
    assert answer.err.splitlines()[-1] == f"look at it: {(tmp_path / 'a report' / 'index.html').as_uri()}"


@pytest.mark.parametrize("name", ["convert", "train"])
def test_json_is_without_a_next_step(command, quick, synthetic, tmp_path, name, monkeypatch):
    monkeypatch.setattr(
        "fastcifar.training.session.run", lambda specs, *_: SimpleNamespace(summaries=[{}] * len(specs), specs=specs)
    )
    arguments = {
        "convert": ("synthetic:20", tmp_path / "d"),
        "train": ("--exp", 2, "--data", synthetic.path, "--out", tmp_path, *TINY),
    }[name]
    answer = command(name, *arguments, "--json")
    assert answer.code == 0, answer.err
    assert "next:" not in answer.out + answer.err
