"""The cache of features: a damaged file is computed again, and where nothing can be written the training goes on.

Features that take no network to compute stand for those of a backbone.
"""

import errno
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError
from fastcifar.training import features
from fastcifar.training.features import features_of

WIDTH = 3
LEARNER = SimpleNamespace(spec=SimpleNamespace(model="resnet18"))


@pytest.fixture
def dataset(tmp_path):
    """100 images of noise, in no other format."""
    return convert("synthetic:100", tmp_path / "data")


@pytest.fixture(autouse=True)
def computed(monkeypatch):
    """A list that gets an element each time the features are computed."""
    times = []

    def compute(learner, dataset):
        times.append(1)
        images = dataset.ids("labelled")
        return torch.arange(WIDTH * len(images), dtype=torch.float32).view(-1, WIDTH), torch.from_numpy(images % 10)

    monkeypatch.setattr(features, "_computed", compute)
    monkeypatch.setattr(features, "_address", lambda learner, dataset: "0123456789abcdef")
    monkeypatch.setattr(features, "_shape", lambda learner, dataset: (len(dataset.ids("labelled")), WIDTH))
    return times


def of(dataset):
    """Return the features, and what was said."""
    said = []
    return features_of(LEARNER, dataset, said.append), said


def file_of(dataset):
    (file,) = dataset.path.glob("cache/*")
    return file


def flipped(content, at):
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


def rewritten(file, **changes):
    """Write other tensors in a file, without a seal."""
    save_file(load_file(file) | changes, file)


DAMAGE = {
    "a bit of a value": lambda file: file.write_bytes(flipped(file.read_bytes(), -1)),
    "a bit of the header": lambda file: file.write_bytes(flipped(file.read_bytes(), 40)),
    "half of it": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "nothing in it": lambda file: file.write_bytes(b""),
    "no seal, as before version 0.3": rewritten,
    "fewer images": lambda file: rewritten(
        file, values=torch.zeros(5, WIDTH), labels=torch.zeros(5, dtype=torch.int64)
    ),
    "another width": lambda file: rewritten(file, values=torch.zeros(100, WIDTH + 1)),
    "other dtypes": lambda file: rewritten(file, labels=torch.zeros(100)),
    "an unknown tensor": lambda file: rewritten(file, more=torch.zeros(1)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_computed_again_and_replaced(damage, dataset, computed):
    wanted, said = of(dataset)
    assert said == []
    file = file_of(dataset)
    whole = file.read_bytes()
    DAMAGE[damage](file)
    again, said = of(dataset)
    assert torch.equal(again.values, wanted.values)
    assert torch.equal(again.labels, wanted.labels)
    assert len(said) == 1
    assert said[0].startswith(f"{file} is not used (")
    assert said[0].endswith("the features are computed again")
    assert file.read_bytes() == whole
    kept, said = of(dataset)
    assert (said, len(computed), kept.seconds) == ([], 2, 0.0)
    assert torch.equal(kept.values, wanted.values)


def test_a_file_of_other_features_is_not_used(dataset, monkeypatch):
    of(dataset)
    monkeypatch.setattr(features, "_address", lambda learner, dataset: "fedcba9876543210")
    file_of(dataset).rename(dataset.path / "cache" / "features-fedcba9876543210.safetensors")
    assert "its seal is not that of its content" in of(dataset)[1][0]


def test_a_change_of_the_file_does_not_change_features_that_were_read(dataset):
    of(dataset)
    kept, _ = of(dataset)
    with open(file_of(dataset), "r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"\xff" * 8)
    assert torch.equal(kept.values, of(dataset)[0].values)


@pytest.mark.parametrize("obstacle", ["read-only", "full"])
def test_what_cannot_be_kept_is_said_before_the_features_are_computed(obstacle, dataset, computed, monkeypatch):
    if obstacle == "full":
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1999))
        reason = r"they take 2,000 bytes, and 1,999 are free"
    else:
        (dataset.path / "cache").write_text("no folder can be made here, not even by root")
        reason = os.strerror(errno.ENOTDIR)
    said = []
    found = features_of(LEARNER, dataset, lambda text: said.append((text, len(computed))))
    assert found.values.shape == (100, WIDTH)
    ((text, times),) = said
    assert times == 0
    assert text == (
        f"features of resnet18 will not be kept in {dataset.path / 'cache'} ({reason}), so each session computes them "
        "anew"
    )


def test_an_error_of_the_disk_does_not_end_the_training(dataset, monkeypatch):
    def full(*arguments):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(features.Path, "write_bytes", full)
    found, said = of(dataset)
    assert found.values.shape == (100, WIDTH)
    assert len(said) == 1
    assert "the features are not kept, so each session computes them anew: " in said[0]
    assert os.strerror(errno.EDQUOT) in said[0]
    assert list(dataset.path.glob("cache/*")) == []


def test_a_dataset_in_memory_has_no_file_of_features(dataset, computed):
    images, labels = dataset.images("train")[:50], dataset.labels("train")[:50]
    memory = Dataset.from_arrays(images, labels, dataset.classes)
    assert of(memory)[0].values.shape == (50, WIDTH)
    assert of(memory)[1] == []
    assert len(computed) == 2


def test_errors_of_the_computation_reach_the_caller(dataset, monkeypatch):
    def fails(learner, dataset):
        raise FastcifarError("a worker process ended")

    monkeypatch.setattr(features, "_computed", fails)
    with pytest.raises(FastcifarError, match="a worker process ended"):
        of(dataset)
