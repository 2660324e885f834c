"""Sources that need no file, and the choice among all sources."""

import sys
from pathlib import Path

import numpy as np
import pytest
from support.builders import class_folders, original_binary, packed
from support.layouts import cifar100_python

from fastcifar.data.sources import CIFAR10, embedded, open_source
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.rng.philox import Stream, scaled, words


def whole(spec: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    chunks = list(open_source(spec).chunks(part))
    np.testing.assert_array_equal(
        np.concatenate([chunk.rows for chunk in chunks]), range(open_source(spec).counts[part])
    )
    return np.concatenate([chunk.images for chunk in chunks]), np.concatenate([chunk.labels for chunk in chunks])


def test_digits_are_scikit_learns_enlarged():
    from sklearn.datasets import load_digits

    source = open_source("digits")
    assert source.counts == {"train": 1500, "test": 297}
    assert source.classes == tuple("0123456789")
    images, labels = (
        np.concatenate(both) for both in zip(whole("digits", "train"), whole("digits", "test"), strict=True)
    )
    assert images.shape == (1797, 32, 32, 3)
    assert (images == images[..., :1]).all()
    small = images[:, ::4, ::4, 0]
    np.testing.assert_array_equal(small.repeat(4, 1).repeat(4, 2), images[..., 0])
    # every digit once: compared as a multiset, since the parts interleave scikit-learn's order
    expected = np.floor(load_digits().images * 255 / 16 + 0.5).reshape(1797, 64)
    found = np.column_stack([small.reshape(1797, 64), labels]).tolist()
    assert sorted(found) == sorted(np.column_stack([expected, load_digits().target]).tolist())
    assert np.bincount(whole("digits", "test")[1], minlength=10).min() >= 20  # every digit is tested on


def test_synthetic_images_are_the_same_ones_however_many_there_are():
    images, labels = whole("synthetic:2000", "train")
    assert images.shape == (2000, 32, 32, 3)
    assert open_source("synthetic:2000").counts == {"train": 2000, "test": 400}
    assert open_source("synthetic:2000").classes == CIFAR10
    few, few_labels = whole("synthetic:10", "train")
    np.testing.assert_array_equal(few, images[:10])
    np.testing.assert_array_equal(few_labels, labels[:10])
    assert (whole("synthetic:10", "test")[0] != images[:2]).any(axis=(1, 2, 3)).all()
    assert len(np.unique(images.reshape(2000, -1), axis=0)) == 2000
    counts = np.bincount(images.ravel(), minlength=256) / images.size * 256  # uniform to 5 standard deviations
    assert abs(counts - 1).max() < 5 * np.sqrt(256 / images.size)
    assert np.bincount(labels, minlength=10).min() > 130
    for image, place in ((0, 0), (7, 17), (1999, 3071)):  # each byte is the one that the docstring says
        word = words(0, Stream.IMAGES, image, block=place // 16)[place % 16 // 4]
        assert images[image].ravel()[place] == int(word) >> 8 * (place % 4) & 0xFF
    np.testing.assert_array_equal(labels, scaled(words(0, Stream.IMAGES, np.arange(2000), block=192)[0], 10))


@pytest.mark.parametrize("spec", ["synthetic:", "synthetic:x", "synthetic:-1", "synthetic:4", "synthetic:99999999999"])
def test_synthetic_sizes_out_of_range_are_refused(spec):
    with pytest.raises(UsageError, match=f"{spec}.* (out of range|is not synthetic:N)"):
        open_source(spec)


def test_generators_are_identified_by_name_and_parameters():
    hashes = [open_source(spec).sha256() for spec in ("digits", "synthetic:10", "synthetic:20")]
    assert len(set(hashes)) == 3
    assert open_source("synthetic:10").sha256() == hashes[1]


def test_a_path_that_is_not_there_is_refused_with_the_choices():
    with pytest.raises(UsageError, match=r"there is no 'nowhere'; give .*Kaggle.*synthetic:N"):
        open_source("nowhere")


def test_a_folder_called_like_a_generator_is_reached_by_its_path(tmp_path, monkeypatch):
    packed(class_folders(), "folder", tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert open_source("./digits").classes == ("ant", "cat")
    assert len(open_source("digits").classes) == 10


@pytest.mark.parametrize(
    ("spec", "name"),
    [("cifar10", "original archive cifar.tar.gz"), ("cifar100", "CIFAR-100 archive cifar.tar.gz, coarse labels")],
)
def test_the_download_is_read_and_removed(monkeypatch, tmp_path, spec, name):
    folders = []
    trees = {"cifar10": original_binary(2), "cifar100": cifar100_python()}
    options = {"labels": "coarse"} if spec == "cifar100" else {}

    def fetch(folder: Path, wanted: str) -> Path:
        folders.append(folder)
        return packed(trees[wanted], "tar.gz", folder / "cifar.tar.gz")

    monkeypatch.setattr("fastcifar.data.sources.download", fetch)
    with open_source(spec, **options) as source:
        assert source.name == name
        assert folders[0].exists()
    assert not folders[0].exists()
    with pytest.raises(UsageError, match=r"cifar\.tar\.gz is an? .*CIFAR-10.* archive, which takes no --part; leave"):
        open_source(spec, part="fog")
    assert not folders[1].exists()

    def fail(folder: Path, wanted: str) -> Path:
        folders.append(folder)
        raise FastcifarError("no network")

    monkeypatch.setattr("fastcifar.data.sources.download", fail)
    with pytest.raises(FastcifarError, match="no network"):
        open_source(spec)
    assert not folders[2].exists()


@pytest.mark.parametrize(("name", "file"), [("cifar10", "cifar-10-python"), ("cifar100", "cifar-100-python")])
def test_a_download_that_fails_says_what_to_do(monkeypatch, tmp_path, name, file):
    utils = pytest.importorskip("torchvision.datasets.utils")

    def fail(url, root, filename, md5):
        assert url.endswith(f"{file}.tar.gz")
        assert len(md5) == 32
        raise OSError("Name or service not known")

    monkeypatch.setattr(utils, "download_url", fail)
    with pytest.raises(
        FastcifarError, match=r"cannot download https://.*not known; where there is no network, give the path"
    ):
        embedded.download(tmp_path, name)


@pytest.mark.parametrize(
    ("spec", "library"), [("digits", "sklearn"), ("cifar10", "torchvision"), ("cifar100", "torchvision")]
)
def test_a_missing_library_is_named(monkeypatch, spec, library):
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, "fastcifar.system.vision", raising=False)
    with pytest.raises(UsageError, match=f"{spec} needs .*pip install"):
        open_source(spec)
