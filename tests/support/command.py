"""The command in this process, and as a process of its own."""

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from fastcifar.cli import app
from fastcifar.system import machine


@dataclass
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch, capsys):
    """Run ``fastcifar`` with arguments in this process: its exit code and what it printed."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fastcifar", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            app.main()
        return Answer(ended.value.code or 0, *capsys.readouterr())

    return run


def started(*arguments, **options):
    """``python -m fastcifar`` as a process of its own, on one thread as the tests are."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "fastcifar", *map(str, arguments)],
        cwd=machine.CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finished(process):
    out, err = process.communicate(timeout=120)
    return Answer(process.returncode, out, err)


TINY = ("--epochs", 2, "--set", "batch_size=32", "--amp", "off", "--device", "cpu")
