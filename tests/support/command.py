"""The command in this process."""

import sys
from dataclasses import dataclass

import pytest

from fastcifar.cli import app


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
