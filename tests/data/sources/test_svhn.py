"""SVHN's cropped digits: .mat files, whose label 10 is the digit 0, and which are not trusted."""

from pathlib import Path

import numpy as np
import pytest
from support.builders import Tree, packed, pixels
from support.layouts import mat, svhn

from fastcifar.data.convert import convert
from fastcifar.data.dataset import verify
from fastcifar.errors import FastcifarError


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("test", [0, 3])
def test_digits_with_and_without_a_test_part(tmp_path, kind, test):
    dataset = convert(str(packed(svhn(test=test), kind, tmp_path / "it")), tmp_path / "out")
    assert dataset.manifest["counts"] == {"train": 12} | ({"test": 3} if test else {})
    assert (dataset.name, dataset.classes) == ("SVHN's cropped digits in it", tuple("0123456789"))
    np.testing.assert_array_equal(dataset.images("train"), [pixels(number) for number in range(12)])
    assert dataset.labels("train").tolist() == [*range(10), 0, 1]
    if test:
        np.testing.assert_array_equal(dataset.images("test"), [pixels(50 + number) for number in range(3)])
        assert dataset.labels("test").tolist() == [0, 1, 2]
    assert "notes" not in verify(tmp_path / "out").manifest


def test_the_additional_images_are_left_out_aloud(tmp_path):
    dataset = convert(str(packed(svhn(extra=True), "folder", tmp_path / "it")), tmp_path / "out")
    assert dataset.manifest["counts"] == {"train": 12, "test": 3}
    assert dataset.manifest["notes"] == ["extra_32x32.mat was left out: only train_32x32.mat is used for training"]


def refused(tmp_path: Path, tree: Tree, fault: str) -> None:
    path = packed(tree, "zip", tmp_path / "it.zip")
    with pytest.raises(FastcifarError, match=fault):
        convert(str(path), tmp_path / "out")
    assert [left.name for left in tmp_path.iterdir()] == ["it.zip"]


IMAGES, LABELS = np.zeros((32, 32, 3, 12), np.uint8), np.ones((12, 1), np.uint8)
WHOLE = svhn()["train_32x32.mat"]
WRONG = {
    "no images": (mat(y=LABELS), r"holds y uint8 \(12, 1\); X uint8"),
    "nothing": (mat(), "holds nothing; X uint8"),
    "no labels": (mat(X=IMAGES), r"holds 12 images and labels of shape \(\)"),
    "too few labels": (mat(X=IMAGES, y=LABELS[:-1]), r"holds 12 images and labels of shape \(11, 1\)"),
    "floats": (mat(X=IMAGES.astype(float), y=LABELS), r"holds X double \(32, 32, 3, 12\), y .*; X uint8"),
    "images first": (mat(X=IMAGES.transpose(3, 0, 1, 2), y=LABELS), r"holds X uint8 \(12, 32, 32, 3\)"),
    "one image without its axis": (mat(X=IMAGES[..., 0], y=LABELS[:1]), r"holds X uint8 \(32, 32, 3\)"),
    "objects": (mat(X=np.array([[{"a": 1}]], object), y=LABELS), "holds X cell"),
    "labels of text": (mat(X=IMAGES, y=np.array([["cat"]] * 12, object)), "has the label .*1 to 10 are labels"),
    "a label of 0": (mat(X=IMAGES, y=LABELS * 0), "has the label 0; 1 to 10 are labels"),
    "a label of 11": (mat(X=IMAGES, y=LABELS * 11), "has the label 11; 1 to 10 are labels"),
    "a label of 1.5": (mat(X=IMAGES, y=LABELS * 1.5), "has the label 1.5; 1 to 10 are labels"),
    "cut off in its images": (WHOLE[:-9000], r"holds 12 images and labels of shape \(\)"),
    "cut off in its labels": (WHOLE[:-8], "(cannot read 'train_32x32.mat' in|holds 12 images and labels)"),
    "a start alone": (WHOLE[:150], "cannot read 'train_32x32.mat' in|holds nothing"),
    "no content": (b"", "cannot read 'train_32x32.mat' in"),
    "text": (b"hello" * 99, "cannot read 'train_32x32.mat' in"),
    "MATLAB 7.3": (
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF" * 99,
        "cannot read 'train_32x32.mat'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_faulty_files_are_refused(tmp_path, name):
    content, fault = WRONG[name]
    refused(tmp_path, svhn() | {"train_32x32.mat": content}, f"(train_32x32.mat' in .*)?{fault}")


def test_without_train_images_it_is_refused(tmp_path):
    tree = {name: content for name, content in svhn().items() if name.startswith("test")}
    refused(tmp_path, tree, "has no train_32x32.mat; put it beside test_32x32.mat")


def test_any_damage_is_refused_or_changes_values_alone(tmp_path):
    rng = np.random.default_rng(0)
    for trial in range(60):
        content = bytearray(WHOLE)
        content[int(rng.integers(len(content) if trial % 2 else 400))] ^= int(rng.integers(1, 256))
        path = packed(svhn() | {"train_32x32.mat": bytes(content)}, "folder", tmp_path / str(trial))
        try:
            assert convert(str(path), tmp_path / f"out{trial}").manifest["counts"]["train"] == 12
        except FastcifarError as error:
            assert "train_32x32.mat" in str(error)  # noqa: PT017 - some damage is harmless
            assert not (tmp_path / f"out{trial}").exists()
