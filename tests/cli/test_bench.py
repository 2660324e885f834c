"""``fastcifar bench``, from a checkout."""

import subprocess
import sys

import pytest
from support import ROOT

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
