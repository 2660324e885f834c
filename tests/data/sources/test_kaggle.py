"""Kaggle's files in each of their forms, and the refusal of every way in which they can be incomplete."""

import re
from pathlib import Path

import numpy as np
import pytest
from support.builders import Tree, csv_of, kaggle, packed, pixels, png, seven_zip

from fastcifar.data.sources import open_source
from fastcifar.errors import FastcifarError, UsageError


def read(path: Path, part: str) -> tuple[np.ndarray, list]:
    with open_source(str(path)) as source:
        images, labels = np.zeros((source.counts[part], 32, 32, 3), np.uint8), [None] * source.counts[part]
        for chunk in source.chunks(part):
            images[chunk.rows] = chunk.images
            for position, row in enumerate(chunk.rows):
                labels[row] = None if chunk.labels is None else chunk.labels[position]
    return images, labels


@pytest.mark.parametrize("root", ["", "cifar-10/"])
@pytest.mark.parametrize(
    ("kind", "unpacked"),
    [("zip", True), ("zip", False), ("folder", True), ("folder", False), ("tar", True), ("7z", True)],
)
def test_rows_are_in_the_order_of_ids(tmp_path, kind, unpacked, root):
    tree = {root + name: content for name, content in kaggle(train=12, test=7, unpacked=unpacked).items()}
    path = packed(tree, kind, tmp_path / "cifar-10")
    with open_source(str(path)) as source:
        assert source.name == "Kaggle's files in cifar-10"
        assert source.counts == {"train": 12, "test": 7}
        np.testing.assert_array_equal(source.test_ids, range(1, 8))
    images, labels = read(path, "train")
    np.testing.assert_array_equal(images, [pixels(number) for number in range(1, 13)])
    assert labels == [number % 10 for number in range(1, 13)]
    images, labels = read(path, "test")
    np.testing.assert_array_equal(images, [pixels(1000 + number) for number in range(1, 8)])
    assert labels == [None] * 7


def test_the_sample_submission_says_which_test_ids_there_are(tmp_path):
    tree = kaggle(test=0) | {"sampleSubmission.csv": csv_of([(90, "cat"), (7, "cat"), (800, "cat")])}
    tree |= {f"test/{number}.png": png(number) for number in (800, 7, 90)}
    path = packed(tree, "zip", tmp_path / "it.zip")
    with open_source(str(path)) as source:
        assert source.test_ids.tolist() == [7, 90, 800]
    np.testing.assert_array_equal(read(path, "test")[0], [pixels(7), pixels(90), pixels(800)])


def test_train_images_alone_will_do_when_nothing_speaks_of_test_images(tmp_path):
    tree = kaggle(test=0)
    del tree["sampleSubmission.csv"]
    with open_source(str(packed(tree, "folder", tmp_path / "it"))) as source:
        assert source.counts == {"train": 12}


def without(*names: str) -> Tree:
    return {name: content for name, content in kaggle().items() if name not in names}


LABELS = [(number, "cat") for number in range(1, 13)]
FAULTS = {
    "no labels": (without("trainLabels.csv"), "has 0 files called trainLabels.csv"),
    "labels twice": (kaggle() | {"more/trainLabels.csv": b""}, "has 2 files called trainLabels.csv"),
    "no train": ({"trainLabels.csv": csv_of(LABELS)}, "has neither train/ nor train.7z"),
    "no test": (without(*(f"test/{i}.png" for i in range(1, 8))), "has neither test/ nor test.7z"),
    "train image missing": (
        without("train/5.png", "train/9.png"),
        "2 train images of trainLabels.csv are missing, the first 5.png",
    ),
    "test image missing": (without("test/7.png"), "1 test images of sampleSubmission.csv are missing, the first 7.png"),
    "gap in test": (without("sampleSubmission.csv", "test/3.png"), "1 test images below the highest are missing"),
    "train image too many": (kaggle() | {"train/13.png": png(1)}, "1 train images are not of trainLabels.csv"),
    "test image too many": (kaggle() | {"test/8.png": png(1)}, "1 test images are not of sampleSubmission.csv"),
    "a test id of 10^18 - 1": (
        without("sampleSubmission.csv") | {f"test/{'9' * 18}.png": png(1)},
        "999,999,999,999,999,991 test images below the highest are missing, the first 8.png of those up to 9+.png",
    ),
    "a listed test id of 10^18 - 1": (
        kaggle() | {"sampleSubmission.csv": csv_of([(10**18 - 1, "cat")])},
        "1 test images of sampleSubmission.csv are missing, the first 9{18}.png",
    ),
    "an id of 5,000 digits": (
        kaggle() | {f"train/{'9' * 5000}.png": png(1)},
        r"holds 'train/9+\.\.\.9+\.png' where only",
    ),
    "a listed id of 5,000 digits": (
        kaggle() | {"trainLabels.csv": csv_of([*LABELS, (int("9" * 40), "x" * 5000)])},
        r"trainLabels\.csv in .*, line 14: '9+\.\.\.x+' is not an id and a label",
    ),
    "a long field": (
        kaggle() | {"trainLabels.csv": csv_of([(1, "x" * 200_000)])},
        r"line 2, is not CSV \(field larger than",
    ),
    "a long header": (kaggle() | {"sampleSubmission.csv": b"x" * 200_000}, r"sampleSubmission.csv in .*, is not CSV"),
    "a long label": (
        kaggle() | {"trainLabels.csv": csv_of([(1, "x" * 90_000)])},
        r"id 1 has the label 'x+\.\.\.x+', which",
    ),
    "test folder without images": (
        without(*(f"test/{i}.png" for i in range(1, 8))) | {"test.7z": seven_zip({})},
        "test.7z holds no test images",
    ),
    "another file": (kaggle() | {"train/notes.txt": b""}, "holds 'train/notes.txt' where only <id>.png files belong"),
    "padded id": (kaggle() | {"train/013.png": png(1)}, "holds 'train/013.png' where only <id>.png files belong"),
    "unknown label": (kaggle() | {"trainLabels.csv": csv_of([*LABELS, (13, "cow")])}, "id 13 has the label 'cow'"),
    "label twice": (kaggle() | {"trainLabels.csv": csv_of([*LABELS, (3, "dog")])}, "id 3 is there twice"),
    "label missing": (kaggle() | {"trainLabels.csv": csv_of([*LABELS[:4], *LABELS[5:]])}, "id 5 is missing"),
    "no label": (kaggle() | {"trainLabels.csv": csv_of([])}, "has no labels"),
    "no header": (kaggle() | {"trainLabels.csv": b"1,cat\n"}, "does not start with the line id,label"),
    "no number": (kaggle() | {"trainLabels.csv": b"id,label\none,cat\n"}, "line 2: 'one,cat' is not an id and a label"),
    "cut line": (kaggle() | {"trainLabels.csv": b"id,label\n1,cat\n2"}, "line 3: '2' is not an id and a label"),
    "not text": (kaggle() | {"trainLabels.csv": b"\xff\xfe\x00"}, "trainLabels.csv in .* is not UTF-8 text"),
    "test id twice": (
        kaggle() | {"sampleSubmission.csv": csv_of([(1, "cat"), (1, "cat")])},
        "sampleSubmission.csv in .*: id 1 is there twice",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_incomplete_files_are_refused_by_name(tmp_path, name):
    tree, fault = FAULTS[name]
    path = packed(tree, "zip", tmp_path / "it.zip")
    with pytest.raises(FastcifarError, match=fault) as error:
        open_source(str(path))
    assert str(path) in str(error.value)
    assert "remove" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_folder_may_hold_a_folder_of_its_own_name(tmp_path, kind):
    tree = {re.sub("^(train|test)/", r"\1/\1/", name): content for name, content in kaggle().items()}
    path = packed(tree, kind, tmp_path / "it")
    np.testing.assert_array_equal(read(path, "train")[0], [pixels(number) for number in range(1, 13)])
    np.testing.assert_array_equal(read(path, "test")[0], [pixels(1000 + number) for number in range(1, 8)])
    twice = packed(tree | {"train/1.png": png(1)}, "zip", tmp_path / "twice.zip")
    with pytest.raises(FastcifarError, match=r"twice\.zip holds train image 1\.png twice; keep only one"):
        open_source(str(twice))


def test_an_image_twice_in_a_nested_archive_is_refused(tmp_path):
    tree = without(*(f"train/{i}.png" for i in range(1, 13)))
    tree["train.7z"] = seven_zip({"train/1.png": png(1), "1.png": png(1)})
    with pytest.raises(FastcifarError, match=re.escape("it/train.7z holds train image 1.png twice")):
        open_source(str(packed(tree, "folder", tmp_path / "it")))


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_a_damaged_nested_archive_is_named(tmp_path, kind):
    tree = kaggle(unpacked=False)
    damaged = bytearray(tree["train.7z"])
    damaged[200] ^= 1  # an image's byte, not the list of files at the end
    path = packed(tree | {"train.7z": bytes(damaged)}, kind, tmp_path / "it")
    with open_source(str(path)) as source, pytest.raises(FastcifarError, match=r"cannot read .*it/train\.7z: "):
        list(source.chunks("train"))
    path = packed(tree | {"train.7z": tree["train.7z"][:-20]}, kind, tmp_path / "cut")
    with pytest.raises(FastcifarError, match=r"cannot read .*cut/train\.7z: "):
        open_source(str(path))


def test_a_7z_archive_in_a_tar_archive_is_to_be_unpacked_first(tmp_path):
    path = packed(kaggle(unpacked=False), "tar", tmp_path / "it.tar")
    with pytest.raises(
        UsageError, match=r"'train\.7z' is an archive inside the tar archive .*; unpack the tar archive"
    ):
        open_source(str(path))
