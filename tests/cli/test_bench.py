"""``fastcifar bench``, from a checkout."""

import os
import re
import subprocess
import sys

import pytest
from support import ROOT
from support.loaders import LOADERS

from fastcifar.throughput import rows


@pytest.mark.slow
def test_quick_from_a_checkout(tmp_path, synthetic):
    out, tiny = tmp_path / "rows.jsonl", ("--data", str(synthetic.path), "--batch-sizes", "16", "--seconds", "0.05")
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "throughput.py"), "--quick", "--pipelines", "resident", *tiny,
         "--out", str(out)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = rows.read(out)
    assert row["verified"]
    assert row["repeats"] == 5
    assert row["ceiling_share"] > 0
    assert "resident" in done.stdout


@pytest.mark.slow
def test_a_loader_of_ones_own(tmp_path, synthetic):
    (tmp_path / "mine.py").write_text(LOADERS, encoding="utf-8")
    shared = [sys.executable, "-m", "fastcifar", "bench", "--data", str(synthetic.path), "--batch-sizes", "16",
              "--seconds", "0.05", "--repeats", "1"]  # fmt: skip

    def bench(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run([*shared, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path,
                              env=environment)  # fmt: skip

    done = bench("--recipes", "none", "--loader", "mine.py:make")
    assert done.returncode == 0, done.stderr
    ours, mine = rows.read(tmp_path / "throughput.jsonl")
    assert (ours["pipeline"], mine["pipeline"], mine["verified"]) == ("resident", "mine.py:make", True)
    assert re.search(r"mine.py:make makes [\d,]+ images/s, .* resident's", done.stdout.splitlines()[-1])
    done = bench("--loader", "mine.py:nothing")
    assert done.returncode == 1
    assert "mine.py:nothing was not timed: it yields no batch" in done.stderr
    done = bench("--loader", "mine.py:mak")
    assert done.returncode == 2
    assert "mine.py has no 'mak'; did you mean 'make'" in done.stderr
