"""The DALI form: its records and indexes are exact, and a full disk is noticed."""

import errno
import importlib
import importlib.util
import os

import pytest
from support.formats import needs_dali, unpacked

from fastcifar.data.convert import convert
from fastcifar.data.dataset import verify
from fastcifar.data.formats.samples import Samples
from fastcifar.errors import FastcifarError


@needs_dali
def test_dali_records_and_indexes_are_exact(tmp_path, unlabelled):
    dataset = convert(unlabelled, tmp_path / "out", formats=("dali",), split_seed=2)
    folder = dataset.path / "dali"
    for part in ("train", "test"):
        content = (folder / f"{part}.tfrecord").read_bytes()
        lines = (folder / f"{part}.idx").read_text().splitlines()
        samples = Samples(dataset, part)
        assert len(lines) == len(samples)
        assert sum(int(line.split()[1]) for line in lines) == len(content)
        for row, line in enumerate(lines):
            offset, size = map(int, line.split())
            image, label, _ = samples[row]
            expected = {"image": image.tobytes(), "label": label, "id": row}
            assert unpacked(content[offset : offset + size]) == expected
        assert (label == -1) == (part == "test")
        if part == "train":
            for split in ("training", "validation"):
                chosen = (folder / f"{split}.idx").read_text().splitlines()
                assert chosen == [lines[row] for row in dataset.ids(split)]
    assert verify(dataset.path).manifest["formats"] == ["raw", "dali"]


@needs_dali
def test_a_disk_that_fills_up_under_dali_is_noticed(tmp_path, monkeypatch):
    form = importlib.import_module("fastcifar.data.formats.dali")

    def full(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(form, "framed", full)
    with pytest.raises(FastcifarError, match=r"disk full while writing .*dali/train\.tfrecord"):
        convert("synthetic:50", tmp_path / "out", formats=("dali",))
    assert not list(tmp_path.iterdir())
