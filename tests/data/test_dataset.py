"""The dataset directory, opened: splits, arrays, and every way of its being damaged."""

import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.builders import kaggle, packed, pixels
from support.seals import reseal, state_anew

from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset, split_name, split_of, verify
from fastcifar.data.manifest import manifest_bytes
from fastcifar.errors import FastcifarError, UsageError


@given(st.integers(5, 3000), st.integers(0, 2**64 - 1))
def test_a_split_holds_out_exactly_one_in_five(n, seed):
    split = split_of(n, seed)
    assert (split.dtype, split.shape) == (np.uint8, (n,))
    assert np.bincount(split, minlength=2).tolist() == [n - n // 5, n // 5]
    np.testing.assert_array_equal(split, split_of(n, seed))


@given(st.integers(0, 2**64 - 2))
def test_seeds_split_differently_and_plainly_at_random(seed):
    one, other = split_of(5000, seed), split_of(5000, seed + 1)
    # Two independent splits share 1000 / 5 = 200 of their held-out images, ±11.3; this allows eight times that.
    assert 110 <= np.count_nonzero(one & other) <= 290
    assert 400 <= np.count_nonzero(one[:2500]) <= 600


def test_split_seed_out_of_range():
    with pytest.raises(UsageError, match="seed -1 is outside"):
        split_of(10, -1)


def test_arrays_are_mapped_and_read_only(made):
    dataset = Dataset.open(made)
    for part, count in (("train", 40), ("test", 8)):
        images, labels = dataset.images(part), dataset.labels(part)
        assert (images.shape, images.dtype) == ((count, 32, 32, 3), np.uint8)
        assert (labels.shape, labels.dtype) == ((count,), np.uint8)
        assert isinstance(images, np.memmap)
        for array in (images, labels):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1
    assert dataset.images("train") is dataset.images("train")
    assert dataset.classes[3] == "cat"
    assert dataset.name.startswith("synthetic:40")
    assert dataset.path == made
    assert len(dataset.sha256) == 64
    assert dataset.test_ids() is None


def test_rows_of_splits(made):
    dataset = Dataset.open(made)
    training, validation = dataset.ids("training"), dataset.ids("validation")
    for rows in (training, validation, dataset.ids("labelled"), dataset.ids("test")):
        assert rows.dtype == np.int64
        assert (np.diff(rows) > 0).all()
    assert (len(training), len(validation)) == (32, 8)
    np.testing.assert_array_equal(np.sort(np.concatenate([training, validation])), dataset.ids("labelled"))
    np.testing.assert_array_equal(dataset.ids("labelled"), range(40))
    np.testing.assert_array_equal(dataset.ids("test"), range(8))
    np.testing.assert_array_equal(dataset.ids("validation", split_seed=3), validation)  # the seed it was made with
    other = dataset.ids("validation", split_seed=4)
    np.testing.assert_array_equal(other, np.flatnonzero(split_of(40, 4)))
    assert other.tolist() != validation.tolist()
    assert [dataset.part(split) for split in ("training", "validation", "labelled", "test")] == ["train"] * 3 + ["test"]


def test_train_and_val_are_other_names_of_splits(made):
    dataset = Dataset.open(made)
    for name, split in (("train", "training"), ("val", "validation")):
        assert (split_name(name), dataset.part(name)) == (split, "train")
        np.testing.assert_array_equal(dataset.ids(name), dataset.ids(split))
        np.testing.assert_array_equal(dataset.ids(name, split_seed=4), dataset.ids(split, split_seed=4))


def test_unknown_splits_and_parts_are_refused(made):
    dataset = Dataset.open(made)
    for name, near in (
        ("trian", "did you mean 'train'? There are"),
        ("validatoin", "did you mean 'validation'?"),
        ("x", "there are training, validation, labelled, test, train, val, valid"),
        (None, "there are"),
    ):
        for ask in (dataset.ids, dataset.part):
            with pytest.raises(UsageError, match=re.escape(f"split {name!r} does not exist; {near}")):
                ask(name)
    for ask in (dataset.images, dataset.labels):
        with pytest.raises(UsageError, match="unknown part 'training'; there are train, test"):
            ask("training")


def test_kaggles_test_images_have_ids_and_no_labels(tmp_path):
    dataset = convert(str(packed(kaggle(test=7), "zip", tmp_path / "it.zip")), tmp_path / "out")
    assert dataset.labels("test") is None
    assert (dataset.test_ids().dtype, dataset.test_ids().tolist()) == (np.int64, list(range(1, 8)))
    np.testing.assert_array_equal(dataset.images("test")[2], pixels(1003))


def test_a_dataset_without_test_images_says_so(tmp_path):
    tree = {name: content for name, content in kaggle(test=0).items() if name != "sampleSubmission.csv"}
    dataset = convert(str(packed(tree, "zip", tmp_path / "it.zip")), tmp_path / "out")
    for ask in (dataset.images, dataset.labels, dataset.ids):
        with pytest.raises(UsageError, match=r"out has no test images, as Kaggle's files in it\.zip had none"):
            ask("test")
    assert dataset.test_ids() is None


def test_a_worker_process_is_sent_the_path_not_the_images(made):
    dataset = Dataset.open(made)
    dataset.images("train")
    sent = pickle.dumps(dataset)
    assert len(sent) < 1000
    received = pickle.loads(sent)
    np.testing.assert_array_equal(received.images("train"), dataset.images("train"))
    assert isinstance(received.images("train"), np.memmap)


def test_what_is_no_dataset_is_refused_with_the_cure(tmp_path):
    cure = "make one with: fastcifar convert SRC DEST"
    (tmp_path / "file").write_text("")
    for name, fault in (
        ("nowhere", "there is no dataset at"),
        (".", "is not a dataset directory"),
        ("file", "is not a"),
    ):
        with pytest.raises(UsageError, match=f"{fault}.*{cure}"):
            Dataset.open(tmp_path / name)
    (tmp_path / "manifest.json").write_text('{"format": "something else", "version": 1}')
    with pytest.raises(UsageError, match=rf"manifest\.json is not a fastcifar dataset's; {cure}"):
        Dataset.open(tmp_path)
    for content in ("", "{", "[]", "{}", '{"format": "fastcifar dataset", "version": "1"}', "[" * 100_000):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(
            FastcifarError, match=r"manifest\.json is damaged \(.*make the dataset anew, at another"
        ) as e:
            Dataset.open(tmp_path)
        assert e.value.exit_code == 1


def change_manifest(path: Path, **entries) -> None:
    reseal(path / "manifest.json", lambda manifest: manifest.update(entries))


def test_another_format_version_is_refused(copy):
    change_manifest(copy, version=3)
    with pytest.raises(UsageError, match="format version 3; the versions 1 and 2 are read here"):
        Dataset.open(copy)


def test_an_incomplete_manifest_is_refused(copy):
    reseal(copy / "manifest.json", lambda manifest: manifest.pop("mean"))
    with pytest.raises(FastcifarError, match=r"manifest\.json is damaged \(Object missing required field `mean`\)"):
        Dataset.open(copy)


@pytest.mark.parametrize("counts", [{}, {"test": 8}])
def test_a_manifest_without_its_train_images_is_refused(copy, counts):
    change_manifest(copy, counts=counts)
    with pytest.raises(FastcifarError, match=r"manifest\.json is damaged \(its counts .* do not fit its files\)"):
        Dataset.open(copy)


junk = st.one_of(st.none(), st.integers(-2, 99), st.text(max_size=3), st.lists(st.integers(), max_size=2), st.just({}))


@pytest.mark.whole
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_manifest_is_refused_or_opens(made, tmp_path, data):
    manifest = json.loads((made / "manifest.json").read_text())
    place = manifest
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(junk)
    copy = tmp_path / "copy"
    shutil.copytree(made, copy, dirs_exist_ok=True)
    for content in (manifest_bytes(manifest), json.dumps(manifest).encode()):  # with another seal, and with the old one
        (copy / "manifest.json").write_bytes(content)
        try:
            assert Dataset.open(copy).images("train").shape == (40, 32, 32, 3)
            assert manifest_bytes(verify(copy).manifest) == manifest_bytes(manifest)
        except FastcifarError as error:
            assert str(copy) in str(error)  # noqa: PT017 - some damage is harmless


@pytest.mark.parametrize("name", ["train.images.npy", "train.labels.npy", "split.npy", "test.images.npy"])
def test_a_file_missing_short_or_changed_is_named(copy, name):
    content = (copy / name).read_bytes()

    def assert_refused(fault, *openings):
        for open_it in openings:
            with pytest.raises(FastcifarError, match=f"{name} {fault}; make the dataset anew"):
                open_it(copy)

    def unverified(path):
        return Dataset.open(path, verify=False)

    (copy / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert_refused("differs from what was written", Dataset.open, verify)
    unverified(copy)  # which takes no reading of all images
    (copy / name).write_bytes(content[:-1])
    assert_refused(r"has [\d,]+ bytes, not the [\d,]+ written", Dataset.open, verify, unverified)
    (copy / name).unlink()
    assert_refused("is missing", Dataset.open, verify, unverified)


def test_an_array_of_another_shape_or_type_is_refused(copy):
    for array, found in ((np.zeros(40, np.int16), r"int16 \(40,\)"), (np.zeros(80, np.uint8), r"uint8 \(80,\)")):
        np.save(copy / "split.npy", array)
        state_anew(copy)
        with pytest.raises(FastcifarError, match=rf"split.npy holds {found}; uint8 \(40,\) is needed"):
            Dataset.open(copy)


def test_verify_names_every_fault_at_once(copy, made):
    assert verify(made).sha256 == verify(copy).sha256
    (copy / "notes.txt").write_text("")
    (copy / "split.npy").unlink()
    (copy / "test.labels.npy").write_bytes(b"")
    with pytest.raises(FastcifarError) as error:
        verify(copy)
    for fault in (
        "notes.txt is not in the manifest",
        "split.npy is missing",
        "test.labels.npy has 0 bytes, not the 136 written",
    ):
        assert fault in str(error.value)


def test_the_cache_of_features_belongs_to_no_manifest(tmp_path):
    """Training with tune=head adds it to the dataset directory, which is then as whole as before."""
    path = tmp_path / "dataset"
    made = convert("synthetic:20", path)
    (path / "cache").mkdir()
    (path / "cache" / "features-0123.safetensors").write_bytes(b"features")
    verify(path)
    assert convert("synthetic:20", path, overwrite=True).sha256 == made.sha256
    assert not (path / "cache").exists()
    (path / "cache").mkdir()
    (path / "cache" / "notes.txt").write_text("of somebody else")
    with pytest.raises(FastcifarError, match=r"cache/notes\.txt is not in the manifest"):
        verify(path)
    with pytest.raises(UsageError, match=r"cache/notes\.txt"):
        convert("synthetic:20", path, overwrite=True)
