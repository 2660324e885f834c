"""Conversion: whole or not at all, whatever happens on the way."""

import errno
import json
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.builders import class_folders, encoded, kaggle, packed, pixels

from fastcifar.data.convert import _save, _write_arrays, convert
from fastcifar.data.dataset import Dataset, verify
from fastcifar.data.sources import Synthetic
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.system.atomic import put_in_place
from fastcifar.system.machine import CHECKOUT
from fastcifar.system.temporary import beside


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_arrays_and_manifest_of_a_small_source(tmp_path):
    source = packed(class_folders(("cat", "ant"), train=4, test=2), "zip", tmp_path / "it.zip")
    dataset = convert(str(source), tmp_path / "out", split_seed=5)
    assert left_in(tmp_path) == ["it.zip", "out"]
    assert left_in(tmp_path / "out") == [
        *("manifest.json", "split.npy", "test.images.npy", "test.labels.npy", "train.images.npy", "train.labels.npy")
    ]
    np.testing.assert_array_equal(dataset.images("train"), [pixels(number) for number in (4, 5, 6, 7, 0, 1, 2, 3)])
    np.testing.assert_array_equal(dataset.labels("train"), [0] * 4 + [1] * 4)
    np.testing.assert_array_equal(dataset.images("test"), [pixels(number) for number in (10, 11, 8, 9)])
    manifest = dataset.manifest
    assert manifest["classes"] == ["ant", "cat"]
    assert manifest["counts"] == {"train": 8, "test": 4}
    assert manifest["image_shape"] == [32, 32, 3]
    assert manifest["split_seed"] == 5
    assert manifest["formats"] == ["raw"]
    assert manifest["source"]["name"] == "class folders of it.zip"
    assert len(manifest["source"]["sha256"]) == 64
    assert {"fastcifar", "python", "numpy", "pillow"} <= manifest["tools"].keys()
    assert str(tmp_path) not in json.dumps(manifest)
    assert verify(tmp_path / "out").sha256 == dataset.sha256


def test_mean_and_std_are_those_of_the_train_pixels(tmp_path):
    dataset = convert("synthetic:3000", tmp_path / "out")
    values = dataset.images("train").reshape(-1, 3) / 255
    np.testing.assert_allclose(dataset.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(dataset.std, values.std(axis=0), rtol=1e-10)


def test_the_same_source_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        convert("synthetic:50", tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert convert("synthetic:50", tmp_path / "three", split_seed=1).sha256 != Dataset.open(tmp_path / "one").sha256


def test_an_existing_destination_is_kept_unless_told_otherwise(tmp_path):
    convert("synthetic:50", tmp_path / "out")
    with pytest.raises(
        UsageError, match="out exists; choose another DEST, or replace the dataset there with --overwrite"
    ):
        convert("synthetic:60", tmp_path / "out")
    assert Dataset.open(tmp_path / "out").manifest["counts"]["train"] == 50
    assert convert("synthetic:60", tmp_path / "out", overwrite=True).manifest["counts"]["train"] == 60
    assert left_in(tmp_path) == ["out"]


def test_what_is_no_dataset_is_never_deleted(tmp_path):
    for name, overwritten in (("folder", "is not a dataset directory"), ("file", "is not a dataset directory")):
        path = tmp_path / name
        path.mkdir() if name == "folder" else path.write_text("precious")
        with pytest.raises(UsageError, match=overwritten):
            convert("synthetic:50", path, overwrite=True)
        assert path.exists()
    (tmp_path / "folder" / "manifest.json").write_text('{"format": "fastcifar dataset", "version": 1}')
    with pytest.raises(UsageError, match=r"is damaged .*--overwrite replaces nothing but datasets: choose"):
        convert("synthetic:50", tmp_path / "folder", overwrite=True)
    dataset = convert("synthetic:50", tmp_path / "out").path
    (dataset / "runs").mkdir()
    (dataset / "runs" / "result.json").write_text("precious")
    with pytest.raises(UsageError, match=r"out holds 'runs/result\.json', which --overwrite would delete"):
        convert("synthetic:50", dataset, overwrite=True)
    assert (dataset / "runs" / "result.json").exists()


def test_a_link_to_a_destination_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "data")
    for count in (50, 60):
        convert(f"synthetic:{count}", tmp_path / "link", overwrite=True)
        assert (tmp_path / "link").is_symlink()
        assert Dataset.open(tmp_path / "disk" / "data").manifest["counts"]["train"] == count
    assert left_in(tmp_path / "disk") == ["data"]


class Halfway(Exception):
    pass


FAILURES = (Halfway, KeyboardInterrupt, FastcifarError)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("step", ["_write_rows", "_save", "_manifest", "_write_manifest", "put_in_place"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_at_any_step_leaves_what_was_there(tmp_path, monkeypatch, step, failure, existing):
    destination = tmp_path / "new" / "folders" / "out" if not existing else tmp_path / "out"
    if existing:
        before = convert("synthetic:50", destination).sha256

    def fail(*arguments):
        raise failure

    monkeypatch.setattr(f"fastcifar.data.convert.{step}", fail)
    with pytest.raises(failure):
        convert("synthetic:60", destination, overwrite=existing)
    assert left_in(tmp_path) == (["out"] if existing else [])
    if existing:
        assert verify(destination).sha256 == before


def test_the_old_dataset_comes_back_when_the_new_cannot_take_its_name(tmp_path, monkeypatch):
    before = convert("synthetic:50", tmp_path / "out").sha256
    rename = Path.rename

    def fail_for_new(path, target):
        if path.suffix == ".partial":
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(FastcifarError, match=r"cannot write .*out: .*Input/output error"):
        convert("synthetic:60", tmp_path / "out", overwrite=True)
    assert left_in(tmp_path) == ["out"]
    assert verify(tmp_path / "out").sha256 == before


def test_a_destination_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    def appear(*arguments):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "precious").write_text("")
        put_in_place(*arguments)

    monkeypatch.setattr("fastcifar.data.convert.put_in_place", appear)
    with pytest.raises(FastcifarError, match=r"another process wrote .*out meanwhile, and it stays as it is"):
        convert("synthetic:60", tmp_path / "out")
    assert left_in(tmp_path) == ["out"]
    assert left_in(tmp_path / "out") == ["precious"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_of_two_conversions_at_once_the_first_to_end_stays(tmp_path, monkeypatch, overwrite):
    before = convert("synthetic:50", tmp_path / "out").sha256 if overwrite else None
    theirs: list[str] = []

    def meanwhile(*arguments):
        monkeypatch.setattr("fastcifar.data.convert._write_arrays", _write_arrays)
        theirs.append(convert("synthetic:70", tmp_path / "out", overwrite=overwrite).sha256)
        return _write_arrays(*arguments)

    monkeypatch.setattr("fastcifar.data.convert._write_arrays", meanwhile)
    with pytest.raises(FastcifarError, match=r"another process wrote .*out meanwhile, and it stays as it is; nothing"):
        convert("synthetic:60", tmp_path / "out", overwrite=overwrite)
    assert left_in(tmp_path) == ["out"]
    assert verify(tmp_path / "out").sha256 == theirs[0] != before


def test_a_dataset_that_was_being_replaced_when_its_process_was_killed_comes_back(tmp_path):
    before = convert("synthetic:50", tmp_path / "out").sha256
    (tmp_path / "out").rename(beside(tmp_path / "out", "old"))
    with pytest.raises(UsageError, match="out exists; choose another DEST"):
        convert("synthetic:60", tmp_path / "out")
    assert left_in(tmp_path) == ["out"]
    assert verify(tmp_path / "out").sha256 == before


def test_temporary_files_inside_a_dataset_are_no_foreign_files(tmp_path):
    convert("synthetic:50", tmp_path / "out")
    (tmp_path / "out" / "cache").mkdir()
    beside(tmp_path / "out" / "cache" / "features-1.safetensors").write_text("half")
    assert convert("synthetic:60", tmp_path / "out", overwrite=True).manifest["counts"]["train"] == 60


@contextmanager
def files_of_at_most(size: int):
    """A disk that is full once a file has ``size`` bytes (Python ignores the signal, so the write fails)."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (100_000, "train.images.npy"),
        (120, "train.images.npy"),
        (130, "train.labels.npy"),
        (100, "manifest"),
    ],
)
def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path, monkeypatch, size, name):
    if name == "train.labels.npy":

        def full(path, array):
            with files_of_at_most(130):
                _save(path, array)

        size = 1 << 40
        monkeypatch.setattr("fastcifar.data.convert._save", full)
    if name == "manifest":
        size, before = 1 << 40, Path.write_bytes

        def write_bytes(path, content):
            with files_of_at_most(100):
                return before(path, content)

        monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with (
        files_of_at_most(size),
        pytest.raises(FastcifarError, match=rf"disk full while writing .*{name}.*free some space"),
    ):
        convert("synthetic:60", tmp_path / "out")
    assert left_in(tmp_path) == []


def test_a_bad_image_halfway_leaves_nothing(tmp_path):
    tree = class_folders(train=6) | {"train/cat/5.png": encoded(pixels(0)[:16])}
    source = packed(tree, "tar.gz", tmp_path / "it.tar.gz")
    with pytest.raises(FastcifarError, match=r"'train/cat/5\.png' in .* is 32×16"):
        convert(str(source), tmp_path / "out")
    assert left_in(tmp_path) == ["it.tar.gz"]


def test_a_killed_conversion_leaves_no_dataset(tmp_path):
    code = "import sys; from fastcifar.data.convert import convert; convert('synthetic:1000000', sys.argv[1])"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], cwd=CHECKOUT)
    try:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob(".out.*.partial/train.images.npy")) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(tmp_path.glob(".out.*.partial/train.images.npy"))
    assert not (tmp_path / "out").exists()
    assert len(convert("synthetic:50", tmp_path / "out").ids("labelled")) == 50  # nor is the next one in the way
    assert left_in(tmp_path) == ["out"]


def test_sources_that_give_too_little_are_caught(tmp_path, monkeypatch):
    chunks = Synthetic.chunks

    def all_but_the_last(self, part):
        *most, _ = chunks(self, part)
        yield from most

    monkeypatch.setattr(Synthetic, "chunks", all_but_the_last)
    with pytest.raises(FastcifarError, match="gave 1,024 of its 1,100 train images"):
        convert("synthetic:1100", tmp_path / "out")
    source = packed(kaggle(train=4), "zip", tmp_path / "it.zip")
    with pytest.raises(FastcifarError, match=r"it\.zip has 4 train images; at least 5 are needed"):
        convert(str(source), tmp_path / "out")


def test_misuse_is_refused_before_any_work(tmp_path):
    with pytest.raises(UsageError, match="format 'npz' does not exist; there are raw, ffcv, dali"):
        convert("synthetic:50", tmp_path / "out", formats=("raw", "npz"))
    with pytest.raises(UsageError, match="there is no 'nowhere'"):
        convert("nowhere", tmp_path / "out")
    with pytest.raises(UsageError, match="seed -1 is outside"):
        convert("synthetic:50", tmp_path / "out", split_seed=-1)
    (tmp_path / "file").write_text("")
    with pytest.raises(FastcifarError, match=r"cannot write .*file"):
        convert("synthetic:50", tmp_path / "file" / "out")
    assert left_in(tmp_path) == ["file"]
