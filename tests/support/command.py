"""Run the command in this process, or in a process of its own."""

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
    """Run ``fastcifar`` with arguments in this process, and return its exit code and its output."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fastcifar", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            app.main()
        return Answer(ended.value.code or 0, *capsys.readouterr())

    return run


def started(*arguments, **options):
    """Start ``python -m fastcifar`` in a process of its own, on one thread like the tests."""
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
