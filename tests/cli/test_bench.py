"""``fastcifar bench``: its files, its output, and its last sentence."""

import json
import os
import re
import subprocess
import sys

import pytest
from support import ROOT
from support.loaders import LOADERS
from support.throughput import made

from fastcifar.system import load, quiet
from fastcifar.throughput import heat, rows, share


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
    assert re.fullmatch(r"resident alone could be timed: [\d,]+ images/s on erasing", done.stdout.splitlines()[-1])
    assert row["load"]["busy_cores"] is None or row["load"]["busy_cores"] >= 0


@pytest.mark.slow
def test_a_loader_of_ones_own(tmp_path, synthetic):
    (tmp_path / "mine.py").write_text(LOADERS, encoding="utf-8")
    shared = [sys.executable, "-m", "fastcifar", "bench", "--data", str(synthetic.path), "--batch-sizes", "16",
              "--seconds", "0.05", "--repeats", "1"]  # fmt: skip

    def bench(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run([*shared, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path,
                              env=environment)  # fmt: skip

    done = bench("--recipes", "none", "--loader", "mine.py:make", "--share", "result.md")
    assert done.returncode == 0, done.stderr
    assert "--loader mine.py:make\n" in (tmp_path / "result.md").read_text(encoding="utf-8")
    ours, mine = rows.read(tmp_path / "throughput.jsonl")
    assert (ours["pipeline"], mine["pipeline"], mine["verified"]) == ("resident", "mine.py:make", True)
    assert re.search(r"mine.py:make makes [\d,]+ images/s, .* resident's", done.stdout.splitlines()[-1])
    done = bench("--loader", "mine.py:nothing", "--append")
    assert done.returncode == 1
    assert "mine.py:nothing was not timed: it yields no batch" in done.stderr
    assert [row["pipeline"] for row in rows.read(tmp_path / "throughput.jsonl")] == [
        "resident", "mine.py:make", "resident", "mine.py:nothing"
    ]  # fmt: skip
    done = bench("--loader", "mine.py:mak")
    assert done.returncode == 2
    assert "mine.py has no 'mak'; did you mean 'make'" in done.stderr


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A file of two rows, in the current directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "throughput.jsonl"
    rows.write([made("resident", [240.0] * 5, recipe="erasing"), made("ffcv", [100.0] * 5, recipe="erasing")], path)
    return path


def test_rows_are_not_replaced_unasked(command, written, monkeypatch):
    monkeypatch.setattr(heat, "hold", lambda *_: pytest.fail("nothing is timed before the files are checked"))
    before = written.read_bytes()
    answer = command("bench", "--quick", "--pipelines", "resident", "--devices", "cpu")
    assert answer.code == 2
    for part in ("throughput.jsonl has 2 rows already", "--append", "--overwrite"):
        assert part in answer.err
    (written.parent / "mine.md").write_text("words")
    answer = command("bench", "--quick", "--pipelines", "resident", "--devices", "cpu", "--overwrite",
                     "--share", "mine.md")  # fmt: skip
    assert answer.code == 2
    assert "mine.md was not made by fastcifar bench --share" in answer.err
    assert written.read_bytes() == before


@pytest.mark.parametrize(("option", "kept"), [("--append", 2), ("--overwrite", 0)])
def test_rows_are_added_or_replaced_when_asked(option, kept, command, written, synthetic, monkeypatch):
    monkeypatch.setattr(heat, "hold", lambda heat, *_: [made("resident", [7.0] * 5, recipe="basic") for _ in heat])
    monkeypatch.setattr("fastcifar.system.measure.write_bandwidth", lambda *_: 1e10)
    monkeypatch.setattr(load, "measure", lambda *_: load.Load(9.0, 9.0))
    options = ("--pipelines", "resident", "--recipes", "basic", "--devices", "cpu", "--batch-sizes", "16")
    options += ("--data", synthetic.path)
    answer = command("bench", *options, option, "--json")
    assert answer.code == 0
    assert [row["images_per_s"] for row in json.loads(answer.out)] == [7]
    assert [row["recipe"] for row in rows.read(written)] == ["erasing"] * kept + ["basic"]
    assert "this may spoil the benchmark: other programs: they use 9.0 of" in answer.err


def test_the_rows_of_a_file(command, written, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    answer = command("bench", "--rows", written)
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == "resident is 2.4 times as fast as the next, ffcv, on erasing"
    assert len(json.loads(command("bench", "--rows", written, "--json").out)) == 2
    assert "99 % of" not in answer.out
    assert "99 % of" in command("bench", "--rows", written, "--wide").out
    answer = command("bench", "--rows", written, "--share", "result.md")
    assert "result.md" in answer.out
    assert (written.parent / "result.md").read_text(encoding="utf-8").startswith(share.MARK)
    assert command("bench", "--rows", "none.jsonl").code == 2
    (written.parent / "other.jsonl").write_text("{}\n")
    answer = command("bench", "--rows", "other.jsonl")
    assert answer.code == 1
    assert "other.jsonl, line 1: not a row of a benchmark (Object missing required field `pipeline`)" in answer.err


def test_compared_as_tables_and_as_json(command, written):
    answer = command("bench", "--compare", written, written)
    assert "erasing, batch 512, float32, cpu" in answer.out
    assert "changed by at most 0.0%" in answer.out
    (ours, ffcv) = json.loads(command("bench", "--compare", written, written, "--json").out)
    assert (ours["ratio"], ffcv["ratio"]) == (None, [1, 1, 1])


@pytest.mark.parametrize(("busy", "code"), [(0.0, 0), (64.0, 1)])
def test_a_look_at_the_machine(busy, code, command, monkeypatch):
    found = load.Snapshot(64, 64, 64, load.Load(busy, busy), 8 << 30, variables={"OMP_WAIT_POLICY": "PASSIVE"})
    monkeypatch.setattr(load, "snapshot", lambda *_: found)
    answer = command("bench", "--doctor")
    assert answer.code == code
    assert "cores: 64 of 64 can be used" in answer.out
    assert ("a benchmark can begin" if code == 0 else "1 thing would spoil a benchmark") in answer.out
    checks = json.loads(command("bench", "--doctor", "--json").out)
    assert [check["ok"] for check in checks] == [code == 0] + [True] * 5
    assert checks[0].keys() == {"name", "ok", "detail", "cure"}
    assert quiet.spoiling(quiet.look()) == [] or code
