"""CIFAR-100's archives, python and binary: fine and coarse labels, and the refusal of faulty files."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from support.builders import Tree, packed, pixels, planes
from support.layouts import COARSE, COUNTS, cifar100_binary, cifar100_python, coarse_labels, fine_labels

from fastcifar.data.convert import convert
from fastcifar.data.dataset import verify
from fastcifar.data.sources import open_source
from fastcifar.data.sources.cifar100 import looks_cifar100
from fastcifar.data.sources.source import CIFAR100
from fastcifar.errors import FastcifarError, UsageError

FORMS = {"python": cifar100_python, "binary": cifar100_binary}


@pytest.fixture
def tiny(monkeypatch):
    """Archives have the counts of the tiny ones."""
    monkeypatch.setattr("fastcifar.data.sources.cifar100.COUNTS", COUNTS)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("kind", ["tar.gz", "folder", "zip"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("root", ["", "cifar-100/"])
def test_images_with_fine_and_coarse_labels(tmp_path, form, kind, root):
    path = str(packed(FORMS[form](root), kind, tmp_path / "it"))
    fine = convert(path, tmp_path / "fine")
    coarse = convert(path, tmp_path / "coarse", labels="coarse")
    assert (fine.classes, coarse.classes) == (CIFAR100, COARSE)
    assert (fine.name, coarse.name) == ("CIFAR-100 archive it", "CIFAR-100 archive it, coarse labels")
    for part, first in (("train", 0), ("test", 1000)):
        np.testing.assert_array_equal(fine.images(part), [pixels(first + number) for number in range(COUNTS[part])])
        assert fine.labels(part).tolist() == fine_labels(part)
        assert coarse.labels(part).tolist() == coarse_labels(part)
    assert verify(tmp_path / "coarse").sha256 != verify(tmp_path / "fine").sha256
    assert convert(path, tmp_path / "again", labels="fine").sha256 == fine.sha256


def test_it_is_told_apart_from_class_folders():
    assert looks_cifar100(["a/train", "a/test"])  # without the meta, too: its absence is then named
    assert looks_cifar100(["train.bin"])
    assert not looks_cifar100(["train/meta/1.png", "meta"])
    assert not looks_cifar100(["train/cat/1.png", "test/cat/1.png"])


def refused(tmp_path: Path, tree: Tree, fault: str, **options) -> None:
    path = packed(tree, "tar.gz", tmp_path / "it.tar.gz")
    with pytest.raises(FastcifarError, match=fault):
        convert(str(path), tmp_path / "out", **options)
    assert [left.name for left in tmp_path.iterdir()] == ["it.tar.gz"]


@pytest.mark.parametrize("form", FORMS)
def test_the_real_numbers_of_images_are_needed(tmp_path, form):
    needed = r"\(50000, 3072\) is needed" if form == "python" else "50,000 images of 3,074 bytes, which is 153,700,000"
    refused(tmp_path, FORMS[form](), needed)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("form", "name"),
    [("python", "train"), ("python", "test"), ("python", "meta"), ("binary", "train.bin"), ("binary", "test.bin"),
     ("binary", "fine_label_names.txt")],
)  # fmt: skip
def test_a_missing_or_truncated_file_is_named(tmp_path, form, name):
    full = f"cifar-100-{form}/{name}"
    tree = FORMS[form]()
    refused(tmp_path, {file: content for file, content in tree.items() if file != full}, f"has no {full}; fetch the")
    (tmp_path / "it.tar.gz").unlink()
    refused(tmp_path, tree | {full: tree[full][:-40]}, f"'{full}' in .* (is not a readable pickle|has .* bytes|names)")


def batch(**changes) -> bytes:
    count = COUNTS["train"]
    whole = {"data": planes(0, count), "fine_labels": fine_labels("train"), "coarse_labels": coarse_labels("train")}
    return pickle.dumps({key: value for key, value in (whole | changes).items() if value is not None}, 2)


WRONG = {
    "no images": (batch(data=None), "data has NoneType"),
    "too few images": (batch(data=planes(0, 3)), r"data has shape \(3, 3072\); \(120, 3072\) is needed"),
    "no labels": (batch(fine_labels=None), "fine_labels has NoneType; a list of 120 is needed"),
    "too few labels": (batch(fine_labels=[0] * 119), "fine_labels has 119 items; a list of 120 is needed"),
    "a label too high": (batch(fine_labels=[100] * 120), "image 0 has the label 100; 0 to 99 are labels"),
    "a label of text": (batch(fine_labels=[[]] * 120), r"image 0 has the label \[\]"),
    "objects": (batch(data=np.array([None] * 3)), "an array of 'O8'; plain uint8"),
    "a list": (pickle.dumps([]), "holds a list; a CIFAR batch is a dictionary"),
    "a call": (pickle.dumps(print), "it calls for (builtins|__builtin__).print"),
}


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", WRONG)
def test_a_faulty_python_batch_is_refused(tmp_path, name):
    content, fault = WRONG[name]
    refused(tmp_path, cifar100_python() | {"cifar-100-python/train": content}, f"train' in .*{fault}")


@pytest.mark.usefixtures("tiny")
def test_faulty_labels_and_names_are_refused(tmp_path):
    tree = cifar100_binary()
    record = bytearray(tree["cifar-100-binary/test.bin"])
    record[3074 * 2], record[3074 * 3 + 1] = 20, 100
    tree["cifar-100-binary/test.bin"] = bytes(record)
    for labels, number, highest in (("coarse", 2, 20), ("fine", 3, 100)):
        fault = f"test.bin' in .*: image {number} has the {labels} label {highest}; 0 to {highest - 1} are labels"
        refused(tmp_path, tree, fault, labels=labels)
        (tmp_path / "it.tar.gz").unlink()
    for names in ([*CIFAR100[:-1], "apple"], CIFAR100[:-1], [*CIFAR100[:-1], b"\x1b[2J"], [*CIFAR100[:-1], 7], None):
        meta = {"cifar-100-python/meta": pickle.dumps({"fine_label_names": names and list(names)}, 2)}
        refused(tmp_path, cifar100_python() | meta, r"meta' in .* names (99|0) fine classes; CIFAR-100 has 100: fetch")
        (tmp_path / "it.tar.gz").unlink()


def test_options_that_do_not_apply_are_refused(tmp_path):
    path = str(packed(cifar100_python(), "folder", tmp_path / "it"))
    with pytest.raises(UsageError, match="--labels 'rough' does not exist; there are fine, coarse"):
        open_source(path, labels="rough")
    with pytest.raises(UsageError, match=r"^it is a CIFAR-100 archive, which takes no --resize; leave it out"):
        open_source(path, resize=True)
    with pytest.raises(UsageError, match="synthetic:50 takes no --labels; leave it out"):
        open_source("synthetic:50", labels="fine")
