"""Verification: no changed file of a dataset directory is believed, and the files are read once a process tree."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.seals import change_json, reseal, state_anew, unseal

from fastcifar.data import verification
from fastcifar.data.dataset import Dataset, verify
from fastcifar.data.manifest import MANIFEST, files_in, read_manifest
from fastcifar.data.verification import VERIFIED
from fastcifar.errors import FastcifarError
from fastcifar.system import machine, temporary


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that are hashed, in a process that has verified nothing."""
    names, fault = [], verification._fault
    monkeypatch.delenv(VERIFIED, raising=False)
    monkeypatch.setattr(
        verification, "_fault", lambda path, name, entry: names.append(name) or fault(path, name, entry)
    )
    return names


def flip(file: Path, byte: int, bit: int = 0) -> None:
    with open(file, "r+b") as opened:
        opened.seek(byte)
        before = opened.read(1)[0]
        opened.seek(byte)
        opened.write(bytes([before ^ 1 << bit]))


def test_what_does_not_belong_to_a_dataset_is_to_be_moved_not_the_dataset_made_anew(copy):
    (copy / ".DS_Store").touch()
    assert Dataset.open(copy).verified
    with pytest.raises(FastcifarError, match=r"\.DS_Store is not in the manifest; move what does not belong .* away$"):
        verify(copy)


def test_a_dataset_of_a_relative_path_is_unpickled_in_another_folder(copy, monkeypatch):
    monkeypatch.chdir(copy.parent)
    content = pickle.dumps(Dataset.open(copy.name))
    monkeypatch.chdir("/")
    assert pickle.loads(content).path == copy


def test_what_a_killed_conversion_moved_aside_is_found_again(copy):
    copy.rename(temporary.beside(copy, "old"))
    assert Dataset.open(copy).verified


def test_a_flipped_bit_in_any_file_is_an_error_that_names_it(synthetic, tmp_path):
    """In every format that is installed; at the file's begin, in its middle and at its end."""
    path = Path(shutil.copytree(synthetic.path, tmp_path / "copy", ignore=shutil.ignore_patterns("cache")))
    names = files_in(path)
    assert names == read_manifest(path)["files"].keys()
    assert {"train.images.npy", "train.labels.npy", "split.npy", "test.images.npy", "test.labels.npy"} <= names
    for name in sorted(names):
        file = path / name
        size = file.stat().st_size
        for place in (0, size // 2, size - 1):
            flip(file, place)
            with pytest.raises(FastcifarError, match=rf"{name} differs from what was written; make the dataset anew"):
                Dataset.open(path)
            flip(file, place)
    assert Dataset.open(path).sha256 == synthetic.sha256


def test_a_flipped_bit_anywhere_in_a_manifest_is_an_error(copy):
    """One bit of every fifth byte, unless JSON's values stay the same. Without its key, the seal is none."""
    file = copy / MANIFEST
    content = file.read_bytes()
    before = json.loads(content)
    for n in range(0, content.index(b'"seal"'), 5):
        changed = content[:n] + bytes([content[n] ^ 1 << n % 7]) + content[n + 1 :]
        try:
            if json.loads(changed) == before:
                continue
        except ValueError:
            pass
        file.write_bytes(changed)
        with pytest.raises(FastcifarError, match="manifest"):
            read_manifest(copy)


CHANGES = {
    "mean": lambda manifest: manifest["mean"].__setitem__(1, manifest["mean"][1] + 1e-9),
    "std": lambda manifest: manifest["std"].reverse(),
    "split_seed": lambda manifest: manifest.update(split_seed=4),
    "no split_seed": lambda manifest: manifest.update(split_seed=None),
    "source hash": lambda manifest: manifest["source"].update(sha256="0" * 64),
    "source name": lambda manifest: manifest["source"].update(name="other images"),
    "counts": lambda manifest: manifest["counts"].update(train=41),
    "classes": lambda manifest: manifest["classes"].reverse(),
    "sha256": lambda manifest: manifest.update(sha256="0" * 64),
    "bytes": lambda manifest: manifest["files"]["split.npy"].update(bytes=1),
    "tools": lambda manifest: manifest["tools"].update(numpy="1.0"),
    "a file fewer": lambda manifest: manifest["files"].pop("split.npy"),
    "no seal": lambda manifest: manifest.update(seal=None),
}


@pytest.mark.parametrize("verified", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_manifest_is_an_error(change, verified, copy):
    change_json(copy / MANIFEST, CHANGES[change])
    with pytest.raises(FastcifarError, match=r"manifest\.json is damaged \(its s.*make the dataset anew"):
        Dataset.open(copy, verify=verified)


CONTRADICTIONS = {
    "counts": "its counts .* do not fit its files|train.images.npy holds",
    "classes": "its sha256 is not that of its files and classes",
    "sha256": "its sha256 is not that of its files and classes",
    "bytes": r"split\.npy has 168 bytes, not the 1 written",
    "a file fewer": "its sha256 is not that of its files and classes",
}


@pytest.mark.parametrize("change", CONTRADICTIONS)
def test_a_manifest_that_contradicts_itself_or_the_arrays_is_an_error(change, copy):
    reseal(copy / MANIFEST, CHANGES[change])
    with pytest.raises(FastcifarError, match=CONTRADICTIONS[change]):
        Dataset.open(copy)


def test_a_manifest_that_leaves_the_dataset_is_an_error(copy):
    (copy.parent / "secret").write_bytes(b"x")
    for name in ("../secret", str(copy.parent / "secret")):
        reseal(
            copy / MANIFEST,
            lambda manifest, name=name: manifest["files"].update({name: manifest["files"]["split.npy"]}),
        )
        with pytest.raises(FastcifarError, match=r"manifest\.json is damaged \(its file '.*' is outside the dataset\)"):
            Dataset.open(copy)
        reseal(copy / MANIFEST, lambda manifest, name=name: manifest["files"].pop(name))


STATEMENTS = {
    "mean": "has a mean and std that are not those of its images",
    "std": "has a mean and std that are not those of its images",
    "split_seed": "has split_seed 4, which gives another split",
}


@pytest.mark.parametrize("change", STATEMENTS)
@pytest.mark.parametrize("read", [Dataset.open, verify])
def test_a_changed_manifest_of_before_is_an_error(change, read, copy):
    unseal(copy / MANIFEST)
    change_json(copy / MANIFEST, CHANGES[change])
    with pytest.raises(FastcifarError, match=rf"manifest\.json {STATEMENTS[change]}; make the dataset anew"):
        read(copy)


def test_a_manifest_of_before_is_opened(copy, made):
    unseal(copy / MANIFEST)
    assert Dataset.open(copy).sha256 == verify(copy).sha256 == Dataset.open(made).sha256


# once a process tree


def test_files_are_hashed_once_and_again_when_one_was_written(copy, hashed):
    names = sorted(read_manifest(copy)["files"])
    for _ in range(3):
        assert Dataset.open(copy).verified
    assert sorted(hashed) == names
    content = (copy / "split.npy").read_bytes()
    (copy / "split.npy").write_bytes(content)
    Dataset.open(copy)
    assert sorted(hashed) == sorted([*names, *names])
    flip(copy / "split.npy", 150)
    with pytest.raises(FastcifarError, match=r"split\.npy differs from what was written"):
        Dataset.open(copy)
    with pytest.raises(FastcifarError, match=r"split\.npy differs from what was written"):
        Dataset.open(copy)  # again, as what failed is not remembered


@pytest.mark.parametrize("name", ["train.images.npy", MANIFEST])
def test_a_replaced_file_is_hashed_again(name, copy, hashed):
    Dataset.open(copy)
    hashed.clear()
    status = (copy / name).stat()
    shutil.copy(copy / name, copy / "new")
    os.utime(copy / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    if name == MANIFEST:
        change_json(copy / "new", lambda manifest: None)
    (copy / "new").replace(copy / name)
    Dataset.open(copy)
    assert "train.images.npy" in hashed


def test_two_datasets_are_both_remembered(copy, made, hashed):
    for path in (made, copy, made, copy):
        Dataset.open(path)
    assert len(hashed) == 2 * len(read_manifest(made)["files"])


CHILD = """
import sys
from fastcifar.data import verification
from fastcifar.data.dataset import Dataset
verification._fault = lambda *_: sys.exit("hashed again")
print(Dataset.open(sys.argv[1]).verified)
"""


def test_a_child_process_is_told(copy, hashed):
    Dataset.open(copy)
    for told, out, err in ((True, "True\n", ""), (False, "", "hashed again\n")):
        environment = {name: value for name, value in os.environ.items() if told or name != VERIFIED}
        command = [sys.executable, "-c", CHILD, copy]
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, cwd=machine.CHECKOUT, check=False
        )
        assert (answer.stdout, answer.stderr) == (out, err)


# without verification


def test_without_verification_nothing_is_hashed_and_the_dataset_says_so(copy, hashed):
    flip(copy / "train.images.npy", 5_000)
    dataset = Dataset.open(copy, verify=False)
    assert not dataset.verified
    assert hashed == []
    with pytest.raises(FastcifarError, match=r"train\.images\.npy differs"):
        Dataset.open(copy)  # the look without verification is not taken for one


@pytest.mark.parametrize(
    ("name", "value", "bound"), [("train.labels.npy", 10, 10), ("test.labels.npy", 255, 10), ("split.npy", 2, 2)]
)
def test_values_out_of_range_are_refused_in_any_case(name, value, bound, copy):
    values = np.load(copy / name)
    values[3] = value
    np.save(copy / name, values)
    message = rf"{name} is damaged: it has {value}, outside \[0, {bound}\); make the dataset anew"
    with pytest.raises(FastcifarError, match=message):
        Dataset.open(copy, verify=False)
    state_anew(copy)  # a manifest that states the damage makes it no better
    with pytest.raises(FastcifarError, match=message):
        Dataset.open(copy)
