"""CIFAR-10.1, CIFAR-10-C and CIFAR-100-C: test images alone, for predictions, from .npy files that are not trusted."""

from pathlib import Path

import numpy as np
import pytest
from support.builders import Tree, packed, pixels
from support.layouts import cifar10_1, corrupted, npy

from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset, verify
from fastcifar.data.sources import open_source
from fastcifar.data.sources.source import CIFAR10, CIFAR100
from fastcifar.errors import FastcifarError, UsageError


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
@pytest.mark.parametrize("root", ["", "datasets/"])
def test_cifar_10_1(tmp_path, kind, root):
    dataset = convert(str(packed(cifar10_1("v6", root=root), kind, tmp_path / "it")), tmp_path / "out")
    assert (dataset.name, dataset.classes) == ("CIFAR-10.1 v6 in it", CIFAR10)
    assert (dataset.manifest["counts"], dataset.manifest["split_seed"]) == ({"test": 20}, None)
    np.testing.assert_array_equal(dataset.images("test"), [pixels(number) for number in range(20)])
    assert dataset.labels("test").tolist() == [*range(10)] * 2
    assert dataset.ids("test").tolist() == list(range(20))
    values = dataset.images("test").reshape(-1, 3) / 255
    np.testing.assert_allclose(dataset.mean, values.mean(axis=0))
    assert set(verify(tmp_path / "out").manifest["files"]) == {"test.images.npy", "test.labels.npy"}
    for split in ("train", "val", "labelled"):
        with pytest.raises(UsageError, match=r"out has no train images, as CIFAR-10\.1 v6 in it had none"):
            Dataset.open(tmp_path / "out").ids(split)
    again = convert(dataset, tmp_path / "again")
    assert again.sha256 == dataset.sha256


def test_a_version_is_chosen(tmp_path):
    path = str(packed(cifar10_1("v4", "v6"), "folder", tmp_path / "it"))
    with open_source(path, part="v4") as source:
        assert source.name == "CIFAR-10.1 v4 in it"
    with pytest.raises(UsageError, match="it has several versions; choose --part v4 or --part v6"):
        open_source(path)
    with pytest.raises(UsageError, match="it has no part 'v5'; choose --part v4 or --part v6"):
        open_source(path, part="v5")
    with pytest.raises(
        UsageError, match=r"--split-seed 1 draws no split, as there are no train images in CIFAR-10\.1 v4 in it; leave"
    ):
        convert(path, tmp_path / "out", split_seed=1, part="v4")


def numbers(first: int, *severities: int) -> list[int]:
    return [first + 100 * severity + image for severity in severities for image in range(4)]


@pytest.mark.parametrize("kind", ["folder", "tar"])
@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize(
    ("part", "chosen"),
    [
        ("fog-3", numbers(0, 3)),
        ("gaussian_noise", numbers(1000, 1, 2, 3, 4, 5)),
        ("gaussian_noise-5, fog-1", numbers(1000, 5) + numbers(0, 1)),
    ],
)
def test_corruptions_and_severities(tmp_path, kind, classes, part, chosen):
    path = packed(corrupted(classes), kind, tmp_path / "it")
    dataset = convert(str(path), tmp_path / "out", part=part)
    assert dataset.name == f"CIFAR-{classes}-C {part} in it"
    assert dataset.classes == (CIFAR10 if classes == 10 else CIFAR100)
    assert dataset.manifest["counts"] == {"test": len(chosen)}
    np.testing.assert_array_equal(dataset.images("test"), [pixels(number) for number in chosen])
    assert dataset.labels("test").tolist() == [0, 3, 7, classes - 1] * (len(chosen) // 4)


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        (
            None,
            r"it has 2 corruptions \(fog, gaussian_noise\) in 5 severities; choose one, such as --part fog-3, or all",
        ),
        ("mist-3", "corruption 'mist-3' does not exist; there are fog, gaussian_noise"),
        ("fog-6", "--part fog-6: the severities are 1 to 5; choose --part fog-3"),
        ("fog-3,gausian_noise", "corruption 'gausian_noise' does not exist; did you mean 'gaussian_noise'?"),
        ("fog-3,fog-3", "--part fog-3,fog-3 names a severity twice; name each once"),
        ("labels", "corruption 'labels' does not exist"),
        ("../fog", r"corruption '\.\./fog' does not exist; did you mean 'fog'\?"),
    ],
)
def test_an_unknown_part_is_refused_with_the_known_ones(tmp_path, part, fault):
    path = str(packed(corrupted(), "folder", tmp_path / "it"))
    with pytest.raises(UsageError, match=fault):
        convert(path, tmp_path / "out", part=part)
    assert not (tmp_path / "out").exists()


def refused(tmp_path: Path, tree: Tree, fault: str, **options) -> None:
    path = packed(tree, "zip", tmp_path / "it.zip")
    with pytest.raises(FastcifarError, match=fault):
        convert(str(path), tmp_path / "out", **options)
    assert [left.name for left in tmp_path.iterdir()] == ["it.zip"]


DATA, LABELS = "cifar10.1_v6_data.npy", "cifar10.1_v6_labels.npy"
IMAGES = np.zeros((20, 32, 32, 3), np.uint8)
HUGE = npy(IMAGES).replace(b"(20, 32, 32, 3)", b"(20, 32, 32, 3" + b"0" * 9 + b")").replace(b" " * 9 + b"\n", b"\n")
WRONG = {
    "truncated images": ({DATA: npy(IMAGES)[:-1]}, r"data\.npy' in .* holds 61,439 bytes of values; .* needs 61,440"),
    "no content": ({DATA: b""}, r"data\.npy' in .* is not a readable \.npy file"),
    "a header alone": ({DATA: npy(IMAGES)[:60]}, r"data\.npy' in .* is not a readable \.npy file"),
    "a huge shape": ({DATA: HUGE}, r"data\.npy' in .* needs [\d,]+: fetch it again"),
    "a negative shape": ({DATA: npy(IMAGES).replace(b"(20, 3", b"(-2, 3")}, "holds 61,440 bytes of values"),
    "no number as the shape": ({DATA: npy(IMAGES).replace(b"(20, 3", b"('', 3")}, "is not a readable"),
    "floats": ({DATA: npy(IMAGES.astype(np.float32))}, r"holds float32 \(20, 32, 32, 3\); uint8 .* is needed"),
    "channels first": ({DATA: npy(IMAGES.reshape(20, 3, 32, 32))}, r"holds uint8 \(20, 3, 32, 32\); uint8 \(20, 32"),
    "too few images": ({DATA: npy(IMAGES[:-1])}, r"uint8 \(19, .* is needed, as there are 20 labels"),
    "objects as images": ({DATA: npy(np.array([{}] * 20), True)}, "holds object, not plain numbers; do not trust"),
    "objects as labels": ({LABELS: npy(np.array([{}] * 20), True)}, "holds object, not plain numbers; do not trust"),
    "records": ({LABELS: npy(np.zeros(20, "i4,i4"))}, "not plain numbers"),
    "a label too high": ({LABELS: npy(np.arange(20))}, r"image 10 has the label 10; 0 to 9 are labels"),
    "a label below": ({LABELS: npy(-np.arange(20))}, r"labels\.npy' in .*: image 1 has the label -1"),
    "labels of text": ({LABELS: npy(np.array(["cat"] * 20))}, r"holds <U3 \(20,\); integers are needed"),
    "labels in columns": ({LABELS: npy(np.zeros((20, 1), int))}, r"holds int64 \(20, 1\); integers"),
    "no labels at all": ({LABELS: None}, rf"it\.zip has no {LABELS} for its {DATA}; fetch it again"),
    "no images at all": (
        {DATA: None},
        r"it\.zip has labels of CIFAR-10\.1, but no _data\.npy beside them; fetch it again",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_faulty_files_are_refused(tmp_path, name):
    change, fault = WRONG[name]
    tree = {file: content for file, content in (cifar10_1("v6") | change).items() if content is not None}
    refused(tmp_path, tree, fault)


def test_faulty_corruptions_are_refused(tmp_path):
    for name, content, fault in (
        ("labels.npy", npy(np.zeros(19, np.uint8)), "has 19 labels, which are not 5 severities"),
        ("labels.npy", npy(np.zeros(25, np.uint8)), r"fog\.npy' in .* \(20, 32, 32, 3\); .*, as there are 25 labels"),
        ("labels.npy", npy(np.full(20, 100)), "image 0 has the label 100; 0 to 99 are labels"),
        ("fog.npy", npy(IMAGES)[:9000], "holds 8,872 bytes of values"),
    ):
        refused(tmp_path, corrupted() | {f"CIFAR-10-C/{name}": content}, fault, part="fog-3")
        (tmp_path / "it.zip").unlink()


def test_arrays_in_columns_are_read_as_they_are_meant(tmp_path):
    images = np.stack([pixels(number) for number in range(20)])
    path = packed(cifar10_1("v6") | {DATA: npy(np.asfortranarray(images))}, "zip", tmp_path / "it.zip")
    np.testing.assert_array_equal(convert(str(path), tmp_path / "out").images("test"), images)


def test_one_file_is_not_the_dataset(tmp_path):
    packed(cifar10_1("v6"), "folder", tmp_path / "it")
    with pytest.raises(UsageError, match=r"data\.npy is one file of a dataset; give the folder .*: .*it$"):
        open_source(str(tmp_path / "it" / DATA))
