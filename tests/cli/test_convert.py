"""``fastcifar convert`` and ``fastcifar verify``: what is printed where, and what is left behind."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from support.builders import class_folders, encoded, packed, pixels, png
from support.layouts import COUNTS, cifar100_python, corrupted, svhn
from support.text import next_of

from fastcifar.data.dataset import Dataset

TRAIN = ("train", "--exp", 2, "--data")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_conversion_that_is_ended_leaves_nothing_behind(tmp_path, number, code):
    process = subprocess.Popen(
        [sys.executable, "-m", "fastcifar", "convert", "synthetic:2000000", str(tmp_path / "ds")],
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # the shell of the tests may ignore it
    )
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert any(tmp_path.iterdir())
    process.send_signal(number)
    assert process.wait(60) == code
    assert list(tmp_path.iterdir()) == []


def test_convert_and_verify(command, tmp_path):
    dest = tmp_path / "data"
    answer = command("convert", "synthetic:50", dest)
    assert (answer.code, answer.err) == (0, next_of(*TRAIN, dest))  # no progress bar where nobody looks
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
    assert answer.err.startswith(f"error: {dest} is not as it was written: split.npy has 1 bytes, not the 188 written")


def test_convert_s_misuse(command, tmp_path):
    answer = command("convert", "synthetic:50", tmp_path / "d", "--formats", "raw,webp")
    assert (answer.code, answer.err) == (2, "error: format 'webp' does not exist; there are raw, ffcv, dali\n")
    answer = command("convert", tmp_path / "[no] such", tmp_path / "d")
    assert answer.code == 2
    assert "[no] such" in answer.err  # brackets are no markup
    assert not (tmp_path / "d").exists()


def test_the_options_of_sources(command, tmp_path, monkeypatch):
    monkeypatch.setattr("fastcifar.data.sources.cifar100.COUNTS", COUNTS)
    hundred = packed(cifar100_python(), "tar.gz", tmp_path / "cifar-100-python.tar.gz")
    answer = command("convert", hundred, tmp_path / "c20", "--labels", "coarse")
    name = "CIFAR-100 archive cifar-100-python.tar.gz, coarse labels"
    assert (answer.code, answer.err) == (0, next_of(*TRAIN, tmp_path / "c20"))
    assert answer.out == f"{tmp_path}/c20: 120 train, 20 test images of 20 classes, from {name}\n"
    shifted = packed(corrupted(root=""), "folder", tmp_path / "CIFAR-10-C")
    answer = command("convert", shifted, tmp_path / "fog3", "--part", "fog-3")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"{tmp_path}/fog3: 4 test images of 10 classes, from CIFAR-10-C fog-3 in CIFAR-10-C\n"
    digits = packed(svhn(extra=True), "folder", tmp_path / "svhn")
    answer = command("convert", digits, tmp_path / "digits")
    assert answer.out.endswith("from SVHN's cropped digits in svhn\n")
    left_out = "extra_32x32.mat was left out: only train_32x32.mat is used for training\n"
    assert answer.err == left_out + next_of(*TRAIN, tmp_path / "digits")
    answer = command("convert", digits, tmp_path / "x", "--part", "fog")
    assert (answer.code, answer.err) == (
        2,
        "error: svhn is SVHN's cropped digits, which takes no --part; leave it out\n",
    )


def test_given_validation_images_and_images_to_change(command, tmp_path):
    tree = class_folders(train=4, test=1) | {f"valid/{name}/0.png": png(0) for name in ("ant", "cat")}
    tree["train/cat/9.png"] = encoded(np.kron(pixels(1), np.ones((2, 2, 1), np.uint8)))
    source = packed(tree | {"train/ant/9.png": encoded(Image.new("L", (32, 32)))}, "zip", tmp_path / "it.zip")
    answer = command("convert", source, tmp_path / "out")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.endswith(
        "64×64, 8-bit RGB; 32×32 8-bit RGB is needed: allow --resize, which changes its pixels\n"
    )
    assert not (tmp_path / "out").exists()
    answer = command("convert", source, tmp_path / "out", "--resize", "--mode", "rgb")
    assert answer.code == 0
    counts = "12 train (2 of them for validation), 2 test images of 2 classes"
    assert answer.out == f"{tmp_path}/out: {counts}, from class folders of it.zip\n"
    assert answer.err == (
        "1 image was resized to 32×32: such pixels are not those of the file\n1 image was converted to RGB\n"
        + next_of(*TRAIN, tmp_path / "out")
    )
