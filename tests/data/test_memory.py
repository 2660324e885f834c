"""Datasets in memory: checked, hashed like a directory, written to one, and sent to other processes."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from support.builders import kaggle, packed, pixels

from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset, split_of, verify
from fastcifar.data.sources.embedded import noise
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.pipeline import open_pipeline

IMAGES, LABELS = noise(np.arange(20), 0)


def test_arrays_become_a_dataset_with_the_hash_of_a_directory(tmp_path):
    written = convert("synthetic:40", tmp_path / "it", split_seed=3)
    parts = {part: (written.images(part), written.labels(part)) for part in ("train", "test")}
    made = Dataset.from_arrays(*parts["train"], written.classes, test=parts["test"], split_seed=3, name="mine")
    assert (made.sha256, made.mean, made.std) == (written.sha256, written.mean, written.std)
    assert made.manifest["files"] == written.manifest["files"]
    assert (made.name, made.manifest["counts"], made.manifest["split_seed"]) == ("mine", {"train": 40, "test": 8}, 3)
    for part in ("train", "test"):
        np.testing.assert_array_equal(made.images(part), written.images(part))
        np.testing.assert_array_equal(made.labels(part), written.labels(part))
    for split in ("training", "validation", "labelled", "test"):
        np.testing.assert_array_equal(made.ids(split), written.ids(split))
    assert made.test_ids() is None


def test_the_arrays_are_copied_and_read_only():
    images = IMAGES.copy()
    made = Dataset.from_arrays(images, LABELS, 10)
    images[:] = 0
    np.testing.assert_array_equal(made.images("train"), IMAGES)
    for array in (made.images("train"), made.labels("train")):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert made.classes == tuple("0123456789")
    np.testing.assert_array_equal(made.ids("validation"), np.flatnonzero(split_of(20, 0)))
    with pytest.raises(UsageError, match="the dataset in memory has no test images, as arrays in memory had none"):
        made.ids("test")


def test_a_given_validation_split_is_kept():
    made = Dataset.from_arrays(IMAGES[:3], LABELS[:3], 10, validation=(IMAGES[3:5], LABELS[3:5]))
    assert (made.ids("training").tolist(), made.ids("val").tolist()) == ([0, 1, 2], [3, 4])
    np.testing.assert_array_equal(made.images("train"), IMAGES[:5])
    assert made.manifest["split_seed"] is None


@pytest.mark.parametrize(("classes", "dtype"), [(256, np.uint8), (257, np.uint16), (1000, np.uint16)])
def test_labels_of_many_classes(tmp_path, classes, dtype):
    labels = [0, 1, 255, classes - 1, 2, 3] * 3
    made = Dataset.from_arrays(IMAGES[:18], torch.tensor(labels), classes)
    written = convert(made, tmp_path / "it")
    for dataset in (made, Dataset.open(tmp_path / "it"), verify(tmp_path / "it")):
        assert dataset.labels("train").dtype == dtype
        assert dataset.labels("train").tolist() == labels
        assert dataset.sha256 == written.sha256
        with open_pipeline("resident", dataset, split="labelled", batch_size=18) as pipeline:
            (batch,) = pipeline.epoch(0)
        assert (batch.labels.dtype, batch.labels.tolist()) == (torch.int64, labels)
    assert written.manifest["version"] == (1 if classes == 256 else 2)


@pytest.mark.parametrize("source", ["memory", "directory"])
def test_a_dataset_is_written_as_it_is(tmp_path, source):
    if source == "memory":
        given = Dataset.from_arrays(IMAGES[:9], LABELS[:9], 10, validation=(IMAGES[9:11], LABELS[9:11]))
    else:
        given = convert(str(packed(kaggle(), "zip", tmp_path / "it.zip")), tmp_path / "given", split_seed=5)
    written = convert(given, tmp_path / "it")
    assert verify(tmp_path / "it").sha256 == given.sha256
    for key in ("source", "split_seed", "counts", "files", "mean"):
        assert written.manifest[key] == Dataset.open(tmp_path / "it").manifest[key] == plain(given.manifest[key])
    with pytest.raises(UsageError, match="--split-seed 1 draws no split, as the validation images are given in"):
        convert(given, tmp_path / "other", split_seed=1)


def test_a_directory_is_a_source(tmp_path):
    first = convert("synthetic:20", tmp_path / "first", split_seed=7)
    second = convert(str(first.path), tmp_path / "second")
    assert (second.sha256, second.manifest["split_seed"]) == (first.sha256, 7)
    for source in (first, first.path):
        with pytest.raises(UsageError, match="first is a dataset, which takes no --resize; leave it out"):
            convert(source, tmp_path / "third", resize=True)
    content = bytearray((first.path / "train.images.npy").read_bytes())
    content[-1] ^= 1
    (first.path / "train.images.npy").write_bytes(content)
    with pytest.raises(FastcifarError, match=r"first is not as it was written: train\.images\.npy differs"):
        convert(first.path, tmp_path / "third")
    assert not (tmp_path / "third").exists()


def plain(value):
    return list(value) if isinstance(value, tuple) else value


def test_other_processes_get_the_arrays():
    made = Dataset.from_arrays(IMAGES, LABELS, 10)
    for received in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        np.testing.assert_array_equal(received.images("train"), IMAGES)
        assert (received.sha256, str(received.path)) == (made.sha256, "the dataset in memory")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(Dataset.ids, (made, "validation")).tolist() == made.ids("validation").tolist()


def test_who_needs_files_is_told_that_there_are_none():
    path = Dataset.from_arrays(IMAGES, LABELS, 10).path
    for ask, fault in (
        (lambda: path / "cache", "has no file 'cache'"),
        (lambda: path.resolve(), "has no directory"),
        (lambda: path.absolute(), "has no directory"),
    ):
        with pytest.raises(UsageError, match=rf"the dataset is in memory and {fault}; write it .*fastcifar\.convert\("):
            ask()


WRONG = {
    "integers": ({"images": IMAGES.astype(int)}, r"the images are int64; .* 0 to 255, np.asarray\(images\).astype"),
    "ragged": ({"images": [[1], [2, 3]]}, "the images cannot be made an array"),
    "a tensor with a gradient": ({"images": torch.zeros(20, 32, 32, 3, requires_grad=True)}, "cannot be made an array"),
    "a set": ({"classes": {"cat", "dog"}}, "give a list of texts"),
    "floats": ({"images": IMAGES / 255}, r"the images are float64; uint8 is needed: .*\(images \* 255\)\.round"),
    "channels first": ({"images": IMAGES.transpose(0, 3, 1, 2)}, r"the shape \(20, 3, 32, 32\).*images\.transpose"),
    "grey": ({"images": IMAGES[..., 0]}, r"the shape \(20, 32, 32\); \(N, 32, 32, 3\) is needed"),
    "large": ({"images": IMAGES.repeat(2, 1)}, "resize or crop them first"),
    "no images": ({"images": IMAGES[:0], "labels": []}, r"the shape \(0, 32, 32, 3\)"),
    "four images": (
        {"images": IMAGES[:4], "labels": LABELS[:4]},
        "4 images leave none for validation; give at least 5",
    ),
    "too few labels": (
        {"labels": LABELS[:-1]},
        r"labels are uint8 of shape \(19,\); give one integer for each of .* 20",
    ),
    "one-hot labels": ({"labels": np.eye(10)[LABELS]}, r"labels are float64 of shape \(20, 10\)"),
    "labels of objects": ({"labels": np.array([{}] * 20)}, "labels are object"),
    "a label too high": ({"labels": [*LABELS[:-1], 10]}, "image 19 has the label 10; labels of 10 classes are 0 to 9"),
    "a label below": ({"labels": [-1, *LABELS[1:]]}, "image 0 has the label -1"),
    "a class that is not UTF-8": (
        {"classes": ["caf\udce9", *map(str, range(9))]},
        r"the class 'caf\\udce9' is not UTF-8 text; give it a name that can be written to files",
    ),
    "one class": ({"classes": ["cat"]}, r"classes \"\['cat'\]\" are not 2 to 65,536 names"),
    "a text": ({"classes": "0123456789"}, "classes '0123456789' are not 2 to 65,536 names"),
    "numbers as names": ({"classes": range(10)}, "are not 2 to 65,536 names"),
    "equal names": ({"classes": [*"012345678", "0"]}, "the class '0' is there twice"),
    "no classes": ({"classes": None}, "classes 'None' are not 2 to 65,536 names"),
    "too many classes": ({"classes": 10**12}, "are not 2 to 65,536 names"),
    "a test part of one": ({"test": IMAGES}, r"test is a ndarray; give it as a pair: test=\(images, labels\)"),
    "a wrong test label": ({"test": (IMAGES[:1], [10])}, "the test image 0 has the label 10"),
    "no validation labels": ({"validation": (IMAGES[:1], [])}, "the validation labels are"),
}


@pytest.mark.parametrize("name", WRONG)
def test_arrays_that_are_no_dataset_are_refused(name):
    change, fault = WRONG[name]
    with pytest.raises(UsageError, match=fault):
        Dataset.from_arrays(**{"images": IMAGES, "labels": LABELS, "classes": 10} | change)


def test_hashes_that_runs_were_named_by_stay(tmp_path):
    source = packed(kaggle(), "folder", tmp_path / "kaggle")
    pinned = {
        ("synthetic:50", 0): "be6fc1b1e120b6f3c658881c5bc3463aeeaadd723ca35c2e292b5cb5b5b59bcd",
        ("synthetic:50", 3): "60929d1d7c164c307f87b26ffd2295d935fdd16e720f48e60d2e8132937e818a",
        (str(source), 0): "f86361a3e4d5c55bc186fcc0eee9f1b7e8f6c359efa5a7582ae6251fa8819b4f",
    }
    for number, ((spec, seed), sha256) in enumerate(pinned.items()):
        assert convert(spec, tmp_path / str(number), split_seed=seed).sha256 == sha256
    np.testing.assert_array_equal(Dataset.open(tmp_path / "2").images("train")[0], pixels(1))
