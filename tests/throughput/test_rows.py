"""Files of rows: what cannot be read is refused, and rows are never replaced unasked."""

import json

import pytest
from support import ROOT
from support.throughput import OUT, made

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.throughput import rows


def test_rows_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="there is no file"):
        rows.read(tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_text("images\n")
    with pytest.raises(FastcifarError, match="line 1: not a row of a benchmark"):
        rows.read(tmp_path / "bad.jsonl")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"pipeline": 3}, r"at `\$.pipeline`"),
        ({"batch_size": True}, r"at `\$.batch_size`"),
        ({"images_per_s": "fast"}, r"at `\$.images_per_s`"),
        ({"images_per_s_min": -1.0}, r"at `\$.images_per_s_min`"),
        ({"pipeline": "a" * 501}, r"at `\$.pipeline`"),
        ({"images_per_s_min": None}, "a speed without its range"),
        ({"turns": []}, "a speed without its range and its turns"),
        ({"turns": ["a"]}, r"at `\$.turns\[0\]`"),
        ({"images_per_s": float("nan")}, "JSON is malformed"),
        ({"environment": None}, r"at `\$.environment`"),
        ({"environment": {"versions": []}}, r"at `\$.environment.versions`"),
        ({"environment": {"gpus": [{}]}}, r"at `\$.environment.gpus\[0\]`"),
        ({"load": 3}, r"at `\$.load`"),
        ({"load": {"busy_cores": "all"}}, r"at `\$.load.busy_cores`"),
    ],
)
def test_rows_of_another_kind(change, named, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows.write([made("resident", [2.0]), made("ffcv", [1.0]) | change], path)
    with pytest.raises(FastcifarError, match=f"line 2: .*{named}.*; choose a file that fastcifar bench wrote"):
        rows.contests(path)


def test_the_committed_rows_are_read_and_those_of_kernels_are_not():
    results = ROOT / "bench" / "results"
    assert all(rows.contests(results / f"{name}-cpu.jsonl") for name in ("throughput", "feeding", "loaders"))
    with pytest.raises(FastcifarError, match=r"line 1: not a row .*`pipeline`"):
        rows.contests(results / "kernels-cpu.jsonl")


def test_rows_are_never_replaced_unasked(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert rows.kept(path, append=False, overwrite=False) == []
    path.touch()
    assert rows.kept(path, append=False, overwrite=False) == []
    found = [made("resident", [2.0]), made("ffcv", [1.0]) | OUT]
    rows.write(found, path)
    with pytest.raises(UsageError, match=r"rows.jsonl has 2 rows already; .*--append.*--overwrite.*--out"):
        rows.kept(path, append=False, overwrite=False)
    with pytest.raises(UsageError, match="exclude each other"):
        rows.kept(path, append=True, overwrite=True)
    assert rows.kept(path, append=True, overwrite=False) == json.loads(json.dumps(found))
    assert rows.kept(path, append=False, overwrite=True) == []
    with pytest.raises(UsageError, match="is a directory"):
        rows.kept(tmp_path, append=False, overwrite=True)
    (tmp_path / "thesis.md").write_text("words")
    with pytest.raises(UsageError, match=r"thesis.md, line 1: not a row of a benchmark.*left as it is.*--out"):
        rows.kept(tmp_path / "thesis.md", append=False, overwrite=True)
