"""Class folders: labels, order and layout, whatever the archive."""

import io
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.builders import CIFAR10, KINDS, class_folders, encoded, packed, pixels, png

from fastcifar.data.convert import convert
from fastcifar.data.dataset import verify
from fastcifar.data.sources import open_source
from fastcifar.data.sources.folders import natural
from fastcifar.errors import FastcifarError, UsageError


def read(path: Path, part: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a part, in the order of rows."""
    with open_source(str(path)) as source:
        images = np.zeros((source.counts[part], 32, 32, 3), np.uint8)
        labels = np.full(source.counts[part], 255)
        for chunk in source.chunks(part):
            images[chunk.rows], labels[chunk.rows] = chunk.images, chunk.labels
    return images, labels


def stack(*numbers: int) -> np.ndarray:
    return np.stack([pixels(number) for number in numbers])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("root", ["", "wrapper/"])
def test_train_and_test_from_every_kind_of_archive(tmp_path, kind, root):
    path = packed(class_folders(("cat", "ant"), train=4, test=2, root=root), kind, tmp_path / "it")
    with open_source(str(path)) as source:
        assert source.classes == ("ant", "cat")
        assert source.counts == {"train": 8, "test": 4}
        assert source.test_ids is None
        assert source.name == "class folders of it"
    for part, first in (("train", 0), ("test", 8)):
        images, labels = read(path, part)
        half = len(images) // 2
        np.testing.assert_array_equal(labels, [0] * half + [1] * half)
        cats, ants = range(first, first + half), range(first + half, first + 2 * half)
        np.testing.assert_array_equal(images, stack(*ants, *cats))


@pytest.mark.parametrize("root", ["", "wrapper/"])
def test_class_folders_alone_are_a_train_part(tmp_path, root):
    tree = {f"{root}{name}/{number}.PNG": png(number) for name in ("b", "a") for number in (10, 9, 2)}
    path = packed(tree, "zip", tmp_path / "it")
    images, labels = read(path)
    np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(images, stack(2, 9, 10, 2, 9, 10))
    with open_source(str(path)) as source:
        assert source.counts == {"train": 6}


def test_cifars_ten_classes_keep_their_order_and_others_are_sorted_naturally(tmp_path):
    for number, classes in enumerate([CIFAR10, ("10", "9", "1")]):
        tree = class_folders(tuple(reversed(classes)), train=1)
        with open_source(str(packed(tree, "folder", tmp_path / str(number)))) as source:
            assert source.classes == (CIFAR10 if classes == CIFAR10 else ("1", "9", "10"))


@given(st.lists(st.text("ab019", max_size=5), unique=True))
def test_natural_order_is_total_and_takes_digits_as_numbers(names):
    keys = [natural(name) for name in names]
    assert len({repr(key) for key in keys}) == len(names)
    numbered = sorted((f"a{number}.png" for number in (0, 3, 20, 100)), key=natural)
    assert numbered == ["a0.png", "a3.png", "a20.png", "a100.png"]
    ordered = sorted(names, key=natural)
    assert sorted(ordered[1:] + ordered[:1], key=natural) == ordered


FAULTS = {
    "nothing at all": ({}, "holds no files"),
    "a stray file": ({"train/README": b""}, "'train/README', which has no place"),
    "a stray file on top": ({"README.md": b""}, r"'README\.md', which has no place"),
    "an unknown part": ({"extra/cat/1.png": png(1)}, r"'extra/cat/1\.png', which has no place"),
    "two validation parts": (
        {f"{part}/{name}/1.png": png(1) for part in ("val", "valid") for name in ("cat", "ant")},
        "has val/ and valid/ images; keep one folder",
    ),
    "a class without validation images": ({"val/cat/1.png": png(1)}, "class 'ant' is not in both train/ and val/"),
    "a folder too deep": ({"train/cat/more/1.png": png(1)}, "'train/cat/more/1.png', which has no place"),
    "another kind of image": ({"train/cat/1.gif": b""}, r"'train/cat/1\.gif', which has no place"),
    "a class in test only": ({"test/cow/1.png": png(1)}, "class 'ant' is not in both train/ and test/"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("kind", ["folder", "tar.gz"])
def test_what_has_no_place_is_refused_by_name(tmp_path, name, kind):
    extra, fault = FAULTS[name]
    tree = class_folders() | extra if extra else {}
    (tmp_path / "it").mkdir() if kind == "folder" else None
    with pytest.raises(FastcifarError, match=f"it(:| holds| has|) ?{fault.removeprefix('has ')}"):
        open_source(str(packed(tree, kind, tmp_path / "it")))


def test_test_images_alone_one_class_and_too_many_are_refused(tmp_path, monkeypatch):
    for number, (tree, fault) in enumerate(
        [
            ({"test/cat/1.png": png(1), "test/ant/1.png": png(1)}, "has no train/ images"),
            ({"train/cat/1.png": png(1)}, "has 1 class folders; 2 to 65,536"),
            ({f"train/{label}/1.png": b"" for label in range(12)}, "has 12 class folders; 2 to 11"),
        ]
    ):
        if number == 2:
            monkeypatch.setattr("fastcifar.data.sources.folders.MAX_CLASSES", 11)
        with pytest.raises(FastcifarError, match=fault):
            open_source(str(packed(tree, "folder", tmp_path / str(number))))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_image_is_named_with_its_archive(tmp_path, kind):
    tree = class_folders() | {"train/cat/7.png": encoded(pixels(0)[:, :16])}
    path = packed(tree, kind, tmp_path / "it")
    with closing(open_source(str(path))) as source, pytest.raises(FastcifarError, match="16×32") as error:
        list(source.chunks("train"))
    assert f"'train/cat/7.png' in {path} is 16×32, 8-bit RGB" in str(error.value)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
@pytest.mark.parametrize("root", ["", "CINIC-10/"])
@pytest.mark.parametrize("test", [0, 2])
def test_validation_images_stay_validation_images(tmp_path, name, root, test):
    tree = class_folders(("cat", "ant"), train=3, test=test, root=root)
    tree |= {f"{root}{name}/{label}/{number}.png": png(50 + number) for label in ("cat", "ant") for number in (0, 1)}
    dataset = convert(str(packed(tree, "zip", tmp_path / "it")), tmp_path / "out")
    assert dataset.manifest["counts"] == {"train": 10} | ({"test": 2 * test} if test else {})
    np.testing.assert_array_equal(dataset.images("train"), stack(3, 4, 5, 0, 1, 2, 50, 51, 50, 51))
    assert dataset.labels("train").tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 1, 1]
    assert (dataset.ids("train").tolist(), dataset.ids("val").tolist()) == (list(range(6)), [6, 7, 8, 9])
    assert dataset.manifest["split_seed"] is None
    assert verify(tmp_path / "out").sha256 == dataset.sha256
    with pytest.raises(
        UsageError, match="--split-seed 0 draws no split, as the validation images are given in class folders of"
    ):
        convert(str(tmp_path / "it"), tmp_path / "other", split_seed=0)
    assert not (tmp_path / "other").exists()


def test_a_class_may_be_called_val(tmp_path):
    tree = {f"{name}/{number}.png": png(number) for name in ("val", "walk") for number in range(3)}
    with open_source(str(packed(tree, "folder", tmp_path / "it"))) as source:
        assert (source.classes, source.counts, source.split) == (("val", "walk"), {"train": 6}, None)


def test_a_validation_folder_alone_is_no_training_set(tmp_path):
    tree = {f"val/{name}/{number}.png": png(number) for name in ("a", "b") for number in range(3)}
    with pytest.raises(FastcifarError, match="has no train/ images"):
        open_source(str(packed(tree, "folder", tmp_path / "it")))


def test_an_empty_class_folder_is_noted(tmp_path):
    tree = {f"{name}/{number}.png": png(number) for name in ("a", "b") for number in range(3)}
    folder = packed(tree, "folder", tmp_path / "it")
    (folder / "c").mkdir()
    dataset = convert(str(folder), tmp_path / "out")
    assert dataset.classes == ("a", "b")
    assert dataset.manifest["notes"] == ["the folder 'c' is empty, so it is no class"]


def test_more_than_256_classes(tmp_path):
    tree = {f"train/{label}/1.png": png(label % 7) for label in range(300)}
    dataset = convert(str(packed(tree, "zip", tmp_path / "it.zip")), tmp_path / "out")
    assert (dataset.labels("train").dtype, dataset.labels("train").tolist()) == (np.uint16, list(range(300)))
    assert dataset.manifest["version"] == 2
    assert verify(tmp_path / "out").classes == tuple(map(str, range(300)))


def test_other_images_are_changed_only_where_an_option_says_so(tmp_path):
    photo, grey = np.kron(pixels(5), np.ones((2, 3, 1), np.uint8)), Image.fromarray(pixels(6)).convert("L")
    tree = class_folders(train=3) | {"train/cat/7.jpg": encoded(photo, "jpeg"), "train/cat/8.png": encoded(grey)}
    path = str(packed(tree, "zip", tmp_path / "it.zip"))
    for options, fault in (
        ({}, r"'train/cat/7\.jpg' in .*it\.zip is 96×64, .*needed: allow --resize, which changes its pixels$"),
        ({"resize": True}, r"'train/cat/8\.png' in .* is 32×32, 8-bit grey; .* is needed: allow --mode rgb$"),
        ({"mode": "RGB"}, "--mode 'RGB' does not exist; did you mean 'rgb'"),
    ):
        with pytest.raises(FastcifarError, match=fault):
            convert(path, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()
    dataset = convert(path, tmp_path / "out", resize=True, mode="rgb")
    images = dataset.images("train")
    np.testing.assert_array_equal(images[-1], np.asarray(grey)[..., None].repeat(3, 2))
    whole = Image.open(io.BytesIO(tree["train/cat/7.jpg"]))
    middle = whole.resize((32, 32), Image.Resampling.BICUBIC, box=(16, 0, 80, 64))
    np.testing.assert_array_equal(images[-2], middle)
    np.testing.assert_array_equal(images[:6], stack(3, 4, 5, 0, 1, 2))
    assert dataset.manifest["notes"] == [
        "1 image was resized to 32×32: such pixels are not those of the file",
        "1 image was converted to RGB",
    ]
    plain = class_folders(train=3)
    assert (
        "notes"
        not in convert(
            str(packed(plain, "zip", tmp_path / "plain.zip")), tmp_path / "plain", resize=True, mode="rgb"
        ).manifest
    )
