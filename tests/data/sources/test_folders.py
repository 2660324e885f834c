"""Class folders: labels, order and layout, whatever the archive."""

import io
import os
import zipfile
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


def test_a_folder_of_any_name_around_the_classes_is_passed_over(tmp_path):
    for number, root in enumerate(["images/", "a/b/", "test/", "val/", "CIFAR/test/"]):
        tree = {f"{root}{name}/{image}.png": png(image) for name in ("b", "a") for image in range(3)}
        dataset = convert(str(packed(tree, "zip", tmp_path / str(number))), tmp_path / f"out{number}")
        assert (dataset.classes, dataset.manifest["counts"]) == (("a", "b"), {"train": 6})
        part = root.split("/")[-2]
        note = [f"there is no train/ beside {part}/, so the images of {part}/ are the train images"]
        assert dataset.manifest.get("notes", []) == (note if part in ("test", "val") else [])


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_a_part_may_hold_one_folder_around_its_classes(tmp_path, kind):
    plain = packed(class_folders(train=4, test=2), kind, tmp_path / "plain")
    tree = {
        name.replace("train/", "train/train/").replace("test/", "test/images/"): content
        for name, content in class_folders(train=4, test=2).items()
    }
    for part in ("train", "test"):
        for found, wanted in zip(read(packed(tree, kind, tmp_path / part), part), read(plain, part), strict=True):
            np.testing.assert_array_equal(found, wanted)


FAULTS = {
    "nothing at all": ({}, "holds no files"),
    "a stray file": ({"train/README": b""}, "'train/README', which has no place .*; it is no image: (move|make)"),
    "a stray file on top": ({"README.md": b""}, r"'README\.md', which has no place .*; it is no image: (move|make)"),
    "CIFAR-100's meta": ({"meta": b""}, r"'meta', which has no place .*; it is no image: (move|make)"),
    "an unknown part": (
        {"extra/cat/1.png": png(1)},
        r"'extra/cat/1\.png', which has no place .*; extra/ is none of train, test, val, valid, validation: m",
    ),
    "an image on top": ({"1.png": png(1)}, r"'1\.png', which has no place .*; it is in no class folder: move it into"),
    "an image in no class": (
        {"train/1.png": png(1)},
        r"'train/1\.png', .*; it is in no class folder: move it into one",
    ),
    "a long name": ({f"train/{'9' * 5000}/x": b""}, r"'train/9+\.\.\.9+/x', which has no place"),
    "two validation parts": (
        {f"{part}/{name}/1.png": png(1) for part in ("val", "valid") for name in ("cat", "ant")},
        "has val/ and valid/ images; keep one folder",
    ),
    "a class without validation images": ({"val/cat/1.png": png(1)}, "class 'ant' is not in both train/ and val/"),
    "a folder too deep": (
        {"train/cat/more/1.png": png(1)},
        "'train/cat/more/1.png', which has no place .*; it is in a folder below the class folder 'cat': move it up",
    ),
    "another kind of image": (
        {"train/cat/1.gif": b""},
        r"'train/cat/1\.gif', which has no place .*; only PNG and JPEG are read: convert it to PNG",
    ),
    "a class in test only": ({"test/cow/1.png": png(1)}, "class 'ant' is not in both train/ and test/"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("kind", ["folder", "tar.gz"])
def test_what_has_no_place_is_refused_by_name(tmp_path, name, kind):
    extra, fault = FAULTS[name]
    if kind == "folder" and any(len(part) > 255 for file in extra for part in file.split("/")):
        pytest.skip("no folder can hold such a name")
    tree = class_folders() | extra if extra else {}
    (tmp_path / "it").mkdir() if kind == "folder" else None
    with pytest.raises(FastcifarError, match=f"it(:| holds| has|) ?{fault.removeprefix('has ')}") as error:
        open_source(str(packed(tree, kind, tmp_path / "it")))
    assert "remove" not in str(error.value)
    assert len(str(error.value)) < 500


def test_validation_images_beside_class_folders_are_explained(tmp_path):
    tree = {f"{name}/{number}.png": png(number) for name in ("a", "b", "val/a", "val/b") for number in range(3)}
    path = packed(tree, "folder", tmp_path / "it")
    with pytest.raises(FastcifarError, match=r"'val/a/0\.png', .*; val/ lies beside class folders: move these into tr"):
        open_source(str(path))


def test_a_dataset_among_the_images_is_not_to_be_removed(tmp_path):
    made = convert("synthetic:50", tmp_path / "it" / "made").path
    with pytest.raises(
        UsageError, match=r"it/made is a fastcifar dataset, not images to convert; to copy it, give its"
    ):
        open_source(str(tmp_path / "it"))
    with pytest.raises(UsageError, match=r"made is a fastcifar dataset"):
        open_source(str(made))
    tree = {f"made/{file.name}": file.read_bytes() for file in made.iterdir()}
    for kind in ("zip", "tar.gz"):
        path = packed(tree, kind, tmp_path / kind)
        with pytest.raises(
            UsageError, match=f"{kind} holds a fastcifar dataset; unpack it, and give its folder as SRC"
        ):
            open_source(str(path))


def test_no_train_images_one_class_and_too_many_are_refused(tmp_path, monkeypatch):
    for number, (tree, fault) in enumerate(
        [
            ({f"{part}/{name}/1.png": png(1) for part in ("test", "val") for name in "ab"}, "has no train/ images"),
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


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("root", ["", "train/", "CIFAR/train/"])
def test_an_empty_class_folder_is_refused(tmp_path, kind, root):
    """Without it, the labels of the classes after it would be those of other classes."""
    tree = {f"{root}{name}/{number}.png": png(number) for name in ("a", "c") for number in range(3)}
    path = packed(tree, kind, tmp_path / "it")
    if kind == "folder":
        packed({f"{root}b/.gitkeep": b""}, kind, path)
    else:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(f"{root}b/", b"")
    with pytest.raises(
        FastcifarError, match=rf"it: the class folder '{root}b' holds no images, .*; put its images there"
    ):
        open_source(str(path))


def test_empty_folders_that_are_no_classes_are_no_fault(tmp_path):
    folder = packed(class_folders(train=3), "folder", tmp_path / "it")
    for name in ("test", "train/cat/more", ".cache"):
        (folder / name).mkdir()
    dataset = convert(str(folder), tmp_path / "out")
    assert dataset.manifest["counts"] == {"train": 6}
    assert dataset.manifest["notes"] == ["the folder test/ holds no images"]
    (folder / "train" / "dog").mkdir()
    with pytest.raises(FastcifarError, match="class folder 'train/dog' holds no images"):
        open_source(str(folder))


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_a_class_name_that_is_not_utf8_is_refused(tmp_path, kind):
    tree = {f"{name}/{number}.png": png(number) for name in ("a", os.fsdecode(b"caf\xe9")) for number in range(3)}
    path = packed(tree, kind, tmp_path / "it")
    fault = r"it: the class folder 'caf\\udce9' has a name that is not UTF-8, or has more than 255 bytes; rename the"
    with pytest.raises(FastcifarError, match=fault) as error:
        open_source(str(path))
    str(error.value).encode()


def test_numbers_of_5000_digits_in_names(tmp_path):
    tree = {f"{name}/{'9' * 5000}{number}.png": png(number) for name in ("a", "b") for number in (2, 1, 0)}
    with open_source(str(packed(tree, "zip", tmp_path / "it"))) as source:
        assert source.counts == {"train": 6}
    np.testing.assert_array_equal(read(tmp_path / "it")[0], stack(0, 1, 2, 0, 1, 2))
    tree = {f"{'9' * 5000}{name}/{number}.png": png(number) for name in ("a", "b") for number in range(3)}
    with pytest.raises(FastcifarError, match=r"class folder '9+\.\.\.9+a' .* more than 255 bytes; rename the folder"):
        open_source(str(packed(tree, "zip", tmp_path / "long")))


def test_turned_images_are_noted(tmp_path):
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(pixels(9)).save(file, "png", exif=exif)
    tree = class_folders(train=3) | {"train/ant/0.png": file.getvalue()}
    dataset = convert(str(packed(tree, "zip", tmp_path / "it.zip")), tmp_path / "out")
    np.testing.assert_array_equal(dataset.images("train")[0], np.rot90(pixels(9), -1))
    assert dataset.manifest["notes"] == ["1 image was turned as the EXIF orientation says"]


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
