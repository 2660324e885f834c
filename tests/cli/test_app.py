"""The command as people and scripts meet it: help, completion, exit codes, and no traceback unless asked for."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import TINY, finished, started
from support.markup import MARKUP

import fastcifar
from fastcifar.cli import app
from fastcifar.system import machine

COMMANDS = ("convert", "verify", "train", "predict", "runs", "list", "preview", "doctor", "demo")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_s_help_has_an_example(command, name):
    answer = command(name, "--help")
    assert answer.code == 0
    assert re.search(f"Examples?: fastcifar {name}", answer.out)
    assert f"Usage: fastcifar {name}" in answer.out


def test_help_and_version(command):
    answer = command("--help")
    assert answer.code == 0
    assert all(re.search(rf"│ {name} ", answer.out) for name in COMMANDS)
    assert command("--version").out == f"fastcifar {fastcifar.__version__}\n"
    assert "Usage: fastcifar" in command().out + command().err


def test_help_answers_at_once():
    """Without importing what takes seconds to import."""
    code = (
        "import sys\nfrom fastcifar.cli.app import main\nsys.argv = ['fastcifar', 'train', '--help']\n"
        "try: main()\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=machine.CHECKOUT)
    assert "typer" in ran.stderr.split()
    assert not {"torch", "numpy", "numba", "matplotlib"} & set(ran.stderr.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(command, monkeypatch, shell):
    monkeypatch.setenv("_FASTCIFAR_COMPLETE", f"source_{shell}")
    answer = command()
    assert answer.code == 0
    assert "_FASTCIFAR_COMPLETE=complete_" + shell in answer.out


def test_completion_completes(command, monkeypatch):
    monkeypatch.setenv("_FASTCIFAR_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "fastcifar tr")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert command().out.split() == ["train"]


@pytest.mark.parametrize("arguments", [["train"], ["train", "--exp", "two"], ["trian"], ["list", "--colour"]])
def test_misuse_that_the_parser_finds(command, arguments):
    answer = command(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert "Usage: fastcifar" in answer.err


def test_there_is_a_hint_where_there_is_no_dataset(command, tmp_path):
    answer = command("train", "--exp", 2, "--data", tmp_path / "none")
    assert answer.code == 2
    assert answer.err == (
        f"error: there is no dataset at {tmp_path / 'none'}; make one with: fastcifar convert SRC DEST\n"
    )


def test_errors_of_the_operating_system_name_their_file(command, synthetic, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    answer = command("train", "--exp", 2, "--data", synthetic.path, "--out", tmp_path / "file", *TINY)
    assert answer.code == 1
    assert re.fullmatch(rf"error: {tmp_path}/file/.*: Not a directory\n", answer.err.splitlines(True)[-1])

    def broken(*_, **__):
        raise OSError("libgarden.so: cannot open shared object file")

    monkeypatch.setattr("fastcifar.runs.plan.headline_runs", broken)
    answer = command("train", "--exp", 2, "--data", synthetic.path)
    assert (answer.code, answer.err) == (1, "error: libgarden.so: cannot open shared object file\n")


def test_debug_shows_the_traceback(tmp_path):
    arguments = ("verify", tmp_path / "none")
    quiet, debug = started(*arguments), started("--debug", *arguments)
    answer = finished(quiet)
    assert (answer.code, answer.out) == (2, "")
    assert (
        answer.err == f"error: there is no dataset at {tmp_path / 'none'}; make one with: fastcifar convert SRC DEST\n"
    )
    answer = finished(debug)
    assert answer.code != 0
    assert "Traceback (most recent call last)" in answer.err
    assert "UsageError: there is no dataset at" in answer.err


def test_only_the_first_signal_ends_a_command_and_nohup_is_kept(monkeypatch):
    set_to = {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_IGN}  # as under nohup
    monkeypatch.setattr(signal, "getsignal", set_to.get)
    monkeypatch.setattr(signal, "signal", set_to.__setitem__)
    app._end_at_signals()
    assert set_to[signal.SIGHUP] == signal.SIG_IGN
    with pytest.raises(SystemExit) as ended:
        set_to[signal.SIGTERM](signal.SIGTERM, None)
    assert ended.value.code == 143
    assert set(set_to.values()) == {signal.SIG_IGN}  # so that files are removed in peace


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fastcifar", "list", "recipes"])
    monkeypatch.setattr("fastcifar.cli.list.console", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        app.main()


@pytest.mark.parametrize("text", [text for text in MARKUP if text.isprintable() and "\0" not in text])
def test_an_error_quotes_what_was_written(command, tmp_path, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = command("verify", "--", text)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"error: there is no dataset at {Path(text)}; make one with: fastcifar convert SRC DEST\n"


@pytest.mark.parametrize("text", [text for text in MARKUP if text.isprintable()])
@pytest.mark.parametrize("before", [[], ["list"], ["list", "recipes"], ["train", "--exp"], ["train"]], ids=" ".join)
def test_misuse_quotes_what_was_written(command, before, text, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TERMINAL_WIDTH", "400")
    answer = command(*before, f"-{text}" if before == ["train"] else f"x{text}")
    assert (answer.code, answer.out) == (2, "")
    said = {f"x{text}", repr(f"x{text}")[1:-1]}  # click shows some values as Python writes them
    assert before[:1] == ["train"] or any(each in " ".join(answer.err.split()) for each in said)
