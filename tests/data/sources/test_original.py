"""The original archives, python and binary: their batches become rows, and faulty ones are refused."""

import pickle
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from support.batches import COUNT, LABELS
from support.builders import CIFAR10, original_binary, original_python, packed, pixels, planes, python2_pickle

from fastcifar.data.sources import open_source
from fastcifar.data.sources.archives import open_files
from fastcifar.data.sources.original import Original
from fastcifar.errors import FastcifarError

BATCH = "cifar-10-batches-py/data_batch_2"
DEEP: list = []
for _ in range(400):  # as deep as pickle can write; test_unpickle has deeper ones
    DEEP = [DEEP, DEEP]  # 2^400 of them as text


TREES = {
    "python 2": original_python(COUNT),
    "python 3": original_python(COUNT, modern=True),
    "binary": original_binary(COUNT),
}


def read(path: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    with closing(Original(open_files(path), COUNT)) as source:
        images, labels = np.zeros((source.counts[part], 32, 32, 3), np.uint8), np.full(source.counts[part], 255)
        for chunk in source.chunks(part):
            images[chunk.rows], labels[chunk.rows] = chunk.images, chunk.labels
    return images, labels


@pytest.mark.parametrize("kind", ["tar.gz", "folder", "zip"])
@pytest.mark.parametrize("form", TREES)
def test_batches_become_rows_in_their_order(tmp_path, form, kind):
    tree = dict(reversed(TREES[form].items()))
    path = packed(tree, kind, tmp_path / "it")
    images, labels = read(path, "train")
    np.testing.assert_array_equal(images, [pixels(number) for number in range(5 * COUNT)])
    np.testing.assert_array_equal(labels, [number % COUNT % 10 for number in range(5 * COUNT)])
    images, labels = read(path, "test")
    np.testing.assert_array_equal(images, [pixels(5 * COUNT + number) for number in range(COUNT)])
    np.testing.assert_array_equal(labels, [number % 10 for number in range(COUNT)])


def test_the_hand_made_pickle_is_one_to_python_too():
    batch = pickle.loads(python2_pickle(planes(0, 3), [4, 5, 6]), encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"], planes(0, 3))
    assert batch[b"labels"] == [4, 5, 6]


@pytest.mark.parametrize("form", TREES)
def test_users_need_ten_thousand_images_a_batch(tmp_path, form):
    with open_source(str(packed(TREES[form], "folder", tmp_path / "it"))) as source:
        assert source.counts == {"train": 50_000, "test": 10_000}
        with pytest.raises(FastcifarError, match=r"data_batch_1(\.bin)?' in .*it.*10,?000"):
            list(source.chunks("train"))


@pytest.mark.parametrize("form", TREES)
def test_a_missing_batch_is_named(tmp_path, form):
    for number, gone in enumerate(("data_batch_1", "data_batch_4", "test_batch")):
        tree = {name: content for name, content in TREES[form].items() if gone not in name}
        with pytest.raises(FastcifarError, match=f"has no cifar-10-batches-.*/{gone}"):
            open_source(str(packed(tree, "folder", tmp_path / str(number))))


def refused(tmp_path: Path, tree: dict[str, bytes], fault: str) -> None:
    path = packed(tree, "tar.gz", tmp_path / "it.tar.gz")
    with pytest.raises(FastcifarError, match=fault), closing(Original(open_files(path), COUNT)) as source:
        list(source.chunks("train"))


def test_faults_of_a_binary_batch_are_refused(tmp_path):
    name = "cifar-10-batches-bin/data_batch_3.bin"
    content = TREES["binary"][name]
    refused(tmp_path, TREES["binary"] | {name: content[:-1]}, "data_batch_3.bin' in .* has 33,802 bytes; 11 images")
    refused(tmp_path, TREES["binary"] | {name: content + b"x"}, "data_batch_3.bin' in .* has 33,804 bytes; 11 images")
    bad = bytearray(content)
    bad[3073 * 2] = 10
    refused(tmp_path, TREES["binary"] | {name: bytes(bad)}, "data_batch_3.bin' in .*: image 2 has the label 10")
    meta = "cifar-10-batches-bin/batches.meta.txt"
    refused(tmp_path, TREES["binary"] | {meta: b"cat\nant\n"}, "batches.meta.txt' in .* names the classes")


WRONG = {
    "not a dictionary": ([1, 2], "holds a list; a CIFAR batch is a dictionary"),
    "no data": ({"labels": LABELS}, "data has NoneType"),
    "no labels": ({"data": planes(0, COUNT)}, "labels has NoneType"),
    "too few images": ({"data": planes(0, 3), "labels": LABELS}, r"data has shape \(3, 3072\); \(11, 3072\) is needed"),
    "too few labels": ({"data": planes(0, COUNT), "labels": LABELS[:-1]}, "labels has 10 items; a list of 11"),
    "wide type": ({"data": planes(0, COUNT).astype(np.int16), "labels": LABELS}, "an array of 'i2'; plain uint8"),
    "objects": ({"data": np.array([{}, []], object), "labels": LABELS}, "an array of 'O8'; plain uint8"),
    "column order": ({"data": np.asfortranarray(planes(0, COUNT)), "labels": LABELS}, "plain uint8"),
    "label too high": ({"data": planes(0, COUNT), "labels": [*LABELS[:-1], 10]}, "image 10 has the label 10"),
    "label below": ({"data": planes(0, COUNT), "labels": [-1, *LABELS[1:]]}, "image 0 has the label -1"),
    "label of 5,000 digits": (
        {"data": planes(0, COUNT), "labels": [10**5000, *LABELS[1:]]},
        "image 0 has the label an integer of 16,610 bits; 0 to 9 are labels",
    ),
    "label of lists": (
        {"data": planes(0, COUNT), "labels": [DEEP, *LABELS[1:]]},
        r"image 0 has the label \[\[\[",
    ),
    "label of text": ({"data": planes(0, COUNT), "labels": ["cat", *LABELS[1:]]}, "image 0 has the label b?'cat'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_faults_of_a_python_batch_are_refused(tmp_path, name):
    batch, fault = WRONG[name]
    refused(tmp_path, TREES["python 2"] | {BATCH: pickle.dumps(batch, 2)}, f"data_batch_2' in .*{fault}")


ODD = {"a number": 10**5000, "numbers": [10**5000], "lists": DEEP, "text": "x" * 9000, "texts": [b"\xff" * 900] * 900}


@pytest.mark.parametrize("name", ODD)
def test_odd_classes_are_refused_in_few_words(tmp_path, name):
    meta = pickle.dumps({"label_names": ODD[name]}, 2)
    path = packed(TREES["python 2"] | {"cifar-10-batches-py/batches.meta": meta}, "tar", tmp_path / "it.tar")
    with pytest.raises(FastcifarError, match=r"batches\.meta' in .*it\.tar names the classes") as error:
        open_source(str(path))
    assert len(str(error.value)) < 700


def test_cifar_100s_classes_are_refused(tmp_path):
    meta = pickle.dumps({"label_names": [*CIFAR10[:-1], "lorry"]}, 2)
    refused(
        tmp_path, TREES["python 2"] | {"cifar-10-batches-py/batches.meta": meta}, "batches.meta' in .* names .*lorry"
    )
