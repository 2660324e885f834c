"""``fastcifar convert`` and ``fastcifar verify``: what is printed where, and what is left behind."""

import json
import subprocess
import sys
import time

from fastcifar.data.dataset import Dataset


def test_a_conversion_that_is_terminated_leaves_nothing_behind(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "fastcifar", "convert", "synthetic:2000000", str(tmp_path / "ds")]
    )
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert any(tmp_path.iterdir())
    process.terminate()
    assert process.wait(60) == 143
    assert list(tmp_path.iterdir()) == []


def test_convert_and_verify(command, tmp_path):
    dest = tmp_path / "data"
    answer = command("convert", "synthetic:50", dest)
    assert (answer.code, answer.err) == (0, "")  # no progress bar where nobody looks
    assert answer.out.startswith(f"{dest}: 50 train, 10 test images of 10 classes, from synthetic:50")
    sha256 = Dataset.open(dest).sha256
    answer = command("verify", dest)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"{dest}: all 5 files are as they were written ({sha256[:12]})\n"
    assert json.loads(command("verify", dest, "--json").out) == {"path": str(dest), "sha256": sha256, "files": 5}

    again = command("convert", "synthetic:50", dest)
    assert (again.code, again.out) == (2, "")
    assert again.err == f"error: {dest} exists; choose another DEST, or replace the dataset there with --overwrite\n"
    answer = command("convert", "synthetic:60", dest, "--overwrite", "--split-seed", 3, "--json")
    manifest = json.loads(answer.out)
    assert (manifest["counts"]["train"], manifest["split_seed"]) == (60, 3)
    assert manifest == Dataset.open(dest).manifest

    (dest / "split.npy").write_bytes(b"x")
    answer = command("verify", dest)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == f"error: {dest} is not as it was written: split.npy differs from what was written\n"


def test_convert_s_misuse(command, tmp_path):
    answer = command("convert", "synthetic:50", tmp_path / "d", "--formats", "raw,webp")
    assert (answer.code, answer.err) == (2, "error: unknown format 'webp'; there are raw, ffcv, dali\n")
    answer = command("convert", tmp_path / "[no] such", tmp_path / "d")
    assert answer.code == 2
    assert "[no] such" in answer.err  # brackets are no markup
    assert not (tmp_path / "d").exists()
