"""Commands that train or predict show a first sign before they import torch, which takes seconds on a busy machine."""

import os
import subprocess
import sys

import pytest
from support import ROOT

SLOW = """
import sys, time
class Finder:
    def find_spec(self, name, *_):
        if name == "torch":
            print("torch is imported", file=sys.stderr, flush=True)
            time.sleep(600)
sys.meta_path.insert(0, Finder())
from fastcifar.cli.app import main
main()
"""
SECONDS = 2.0  # of the CPU for the first sign; the wall clock of a busy machine says nothing


@pytest.mark.parametrize(
    ("arguments", "sign"),
    [
        (("train", "--exp", "2"), "3 runs into runs/exp2; loading torch"),
        (("grid", "--exp", "2"), "making the plan; loading torch"),
        (("diagnose", "bn", "--weights", "none"), "loading torch"),
        (("report",), "reading the runs below runs"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_there_is_a_sign_before_torch_is_imported(arguments, sign, synthetic, tmp_path):
    (tmp_path / "runs").mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments, "--data", str(synthetic.path)],
        cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        lines = []
        while not lines or "torch is imported" not in lines[-1]:
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        process.kill()
        process.stderr.close()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        process.kill()  # does nothing after the lines above
    assert any(sign in line for line in lines[:-1]), lines
    assert used.ru_utime + used.ru_stime < SECONDS
