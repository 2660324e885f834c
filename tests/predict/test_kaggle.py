"""Kaggle's CSV: ids in order, each image under its own, and a file that is whole or not there."""

import errno
import tracemalloc

import numpy as np
import pytest
import torch
from fastcifar.kernels import reference
from support.builders import CIFAR10
from support.kept import kept
from support.predictions import Sides, opened
from torch import nn

from fastcifar.augment import draw
from fastcifar.errors import FastcifarError
from fastcifar.predict.ensemble import PredictOptions, ensemble, rows_of
from fastcifar.predict.kaggle import kaggle_ids, write_submission
from fastcifar.recipes import RECIPES
from fastcifar.runs import trained
from fastcifar.system.atomic import whole


def test_the_submission_is_kaggle_s_to_the_byte(kaggles, tmp_path):
    ids = kaggle_ids(kaggles, "test", kaggles.ids("test"))
    assert ids.tolist() == [3, 10, 200]
    write_submission(tmp_path / "s.csv", ids, np.array([9, 0, 3]), kaggles.classes)
    assert (tmp_path / "s.csv").read_bytes() == b"id,label\n3,truck\n10,airplane\n200,cat\n"


def test_rows_are_in_the_order_of_ids(tmp_path):
    write_submission(tmp_path / "s.csv", np.array([30, 4, 100]), np.array([0, 1, 2]), ("a", "b,c", 'd"'))
    assert (tmp_path / "s.csv").read_text() == 'id,label\n4,"b,c"\n30,a\n100,"d"""\n'


def test_without_kaggle_s_ids_rows_count_from_one(synthetic, kaggles):
    assert kaggle_ids(synthetic, "test", synthetic.ids("test")).tolist() == list(range(1, 21))
    validation = kaggles.ids("validation")
    assert kaggle_ids(kaggles, "validation", validation).tolist() == (validation + 1).tolist()  # Kaggle's train ids


def test_each_image_gets_its_own_class_under_its_own_id(kaggles, tmp_path, monkeypatch):
    """By a network that reads the class off the pixels."""

    class Brightness(Sides):
        def forward(self, images):
            class_ = (images.float().mean((1, 2, 3)) * 1e6).long() % 10
            return nn.functional.one_hot(class_, 10).float()

    monkeypatch.setattr(trained, "build", lambda *_: Brightness())
    monkeypatch.setattr("fastcifar.predict.ensemble.SLAB", 2)
    runs = opened(kept(kaggles, tmp_path, Brightness().state_dict()))
    rows = rows_of(runs, kaggles, "test")
    labels = ensemble(runs, kaggles, "test", PredictOptions(batch_size=1)).argmax(1)
    write_submission(tmp_path / "s.csv", kaggle_ids(kaggles, "test", rows), labels, kaggles.classes)
    expected = []
    for row, number in enumerate((3, 10, 200)):
        still = RECIPES["basic"].still()
        pixels = torch.from_numpy(np.array(kaggles.images("test")[row : row + 1]))
        class_ = Brightness()(reference.apply(pixels, draw(still, 0, 0, [row]), still)).argmax()
        expected.append(f"{number},{CIFAR10[class_]}")
    assert (tmp_path / "s.csv").read_text().splitlines() == ["id,label", *expected]


@pytest.mark.whole
def test_300_000_rows(tmp_path):
    ids, labels = np.arange(300_000, 0, -1), np.arange(300_000, 0, -1) % 10
    tracemalloc.start()
    try:
        write_submission(tmp_path / "s.csv", ids, labels, CIFAR10)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20  # the order is 2.4 MB; the text would be more
    finally:
        tracemalloc.stop()
    lines = (tmp_path / "s.csv").read_text().split("\n")
    assert lines[0] == "id,label"
    assert lines[1:-1] == [f"{number},{CIFAR10[number % 10]}" for number in range(1, 300_001)]
    assert lines[-1] == ""


@pytest.mark.parametrize("before", [None, "what was there"])
def test_an_interruption_leaves_what_was_there(tmp_path, before):
    class Interrupting(tuple):
        reads = 0

        def __getitem__(self, place):
            self.reads += 1
            if self.reads == 5_000:
                assert len(list(tmp_path.iterdir())) == 1 + (before is not None)  # it is being written elsewhere
                raise KeyboardInterrupt
            return super().__getitem__(place)

    path = tmp_path / "s.csv"
    if before is not None:
        path.write_text(before)
    with pytest.raises(KeyboardInterrupt):
        write_submission(path, np.arange(10_000), np.zeros(10_000, int), Interrupting(["a"]))
    assert [file.name for file in tmp_path.iterdir()] == ([] if before is None else ["s.csv"])
    assert before is None or path.read_text() == before
    write_submission(path, np.arange(2), np.zeros(2, int), ("a",))
    assert path.read_text() == "id,label\n0,a\n1,a\n"
    assert [file.name for file in tmp_path.iterdir()] == ["s.csv"]


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path):
    def fill():
        with whole(tmp_path / "s.csv") as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(FastcifarError, match=r"disk full while writing .*s\.csv"):
        fill()
    assert not list(tmp_path.iterdir())
