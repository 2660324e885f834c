"""Standard output and error: every encoding is enough, and a closed or full one ends the program quietly."""

import io
import json
import os
import subprocess
import sys

import pytest
from support import ROOT
from support.written_runs import spec_of, write_run

from fastcifar.data.convert import convert
from fastcifar.show import streams

ODD = "Zürich ± 1 × 2 → 3 … █ 中 \udce9"


def answered(arguments, folder, shell="{}", **environment):
    """Return the answer of the command in a process of its own. shell: the line of bash around the command."""
    line = shell.format(f'"{sys.executable}" -m fastcifar {arguments}')
    surroundings = os.environ | {"PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(["bash", "-c", line], cwd=folder, env=surroundings, capture_output=True, timeout=120)


@pytest.fixture
def folder(tmp_path):
    write_run(tmp_path / "runs", spec_of(), [0.1, 0.2])
    write_run(tmp_path / "runs", spec_of(seed=1), [0.2, 0.3])
    return tmp_path


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", b"Zurich +- 1 x 2 -> 3 ... # ? ?"),
        ("latin-1", "Zürich ± 1 × 2 -> 3 ... # ? ?".encode("latin-1")),
        ("utf-8", "Zürich ± 1 × 2 → 3 … █ 中 ?".encode()),
    ],
)
def test_characters_that_an_encoding_lacks_are_replaced(monkeypatch, encoding, written):
    buffer = io.BytesIO()
    before = io.TextIOWrapper(buffer, encoding)
    monkeypatch.setattr(sys, "stdout", before)
    streams.prepare()
    assert sys.stdout is not before
    print(ODD, flush=True)
    assert buffer.getvalue() == written + b"\n"


@pytest.mark.whole
@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"},
                                         {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])  # fmt: skip
def test_no_command_fails_for_an_encoding(folder, environment):
    for arguments in ("list experiments", "runs", "runs --csv -", "convert digits dest --overwrite"):
        answer = answered(arguments, folder, **environment)
        assert answer.returncode == 0, answer
        assert b"Traceback" not in answer.stderr, answer
        assert answer.stdout
    assert json.loads(answered("convert digits dest --overwrite --json", folder, **environment).stdout)["counts"]


@pytest.mark.whole
@pytest.mark.parametrize(
    ("shell", "status", "said"),
    [
        ("{} | true; exit ${{PIPESTATUS[0]}}", streams.UNREAD, ""),
        ("{} 2>&1 | true; exit ${{PIPESTATUS[0]}}", streams.UNREAD, ""),
        ("{} >&-", 0, ""),
        ("{} <&- >&- 2>&-", 0, ""),
        ("{} >/dev/full", 1, "error: standard output cannot be written: No space left on device; send it to another"),
    ],
)
@pytest.mark.parametrize("arguments", ["list experiments", "runs --json", "verify dest"])
def test_a_closed_or_full_output_ends_a_command_quietly(folder, arguments, shell, status, said):
    convert("synthetic:50", folder / "dest")
    answer = answered(arguments, folder, shell)
    assert answer.returncode == status, answer
    assert answer.stdout == b""
    assert answer.stderr.decode().startswith(said)
    assert answer.stderr.decode().count("\n") == (1 if said else 0)


def test_an_error_has_its_status_where_standard_error_is_full(folder):
    assert answered("verify nosuch", folder, "{} 2>/dev/full").returncode == 2
