"""FFCV and DALI forms: read back exact, by their own readers and by ours; a difference or a full disk is an error."""

import errno
import importlib
import importlib.util
import os
import struct
import sys

import numpy as np
import pytest
import torch
from support.builders import kaggle, packed

from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset, verify
from fastcifar.data.formats.samples import Samples
from fastcifar.data.formats.tfrecord import crc32c, example, masked_crc32c, record
from fastcifar.errors import FastcifarError, UsageError

needs_ffcv = pytest.mark.skipif(not importlib.util.find_spec("ffcv"), reason="FFCV is not installed")
needs_dali = pytest.mark.skipif(
    not (importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.dali")), reason="DALI is not installed"
)


# RFC 3720, B.4; the last is the check value of the catalogue of CRCs.
@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_crc32c_known_answers(data, crc):
    assert crc32c(data) == crc
    assert masked_crc32c(data) == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def parsed(message: bytes) -> list[tuple[int, bytes | int]]:
    """The (field number, content) pairs of a Protocol Buffers message."""

    def varint(position: int) -> tuple[int, int]:
        value, shift = 0, 0
        while True:
            value |= (message[position] & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if message[position - 1] < 0x80:
                return value, position

    fields, position = [], 0
    while position < len(message):
        key, position = varint(position)
        value, position = varint(position)
        if key & 7 == 2:
            value, position = message[position : position + value], position + value
        fields.append((key >> 3, value))
    assert position == len(message)
    return fields


def unpacked(content: bytes) -> dict[str, bytes | int]:
    """The features of a record, its sums checked."""
    (length,) = struct.unpack_from("<Q", content)
    assert struct.unpack_from("<I", content, 8) == (masked_crc32c(content[:8]),)
    assert struct.unpack_from("<I", content, 12 + length) == (masked_crc32c(content[12 : 12 + length]),)
    assert len(content) == length + 16
    ((_, features),) = parsed(content[12 : 12 + length])
    values = {}
    for number, entry in parsed(features):
        (one, name), (two, feature) = parsed(entry)
        ((kind, items),) = parsed(feature)
        assert (number, one, two) == (1, 1, 2)
        if kind == 1:
            ((_, values[name.decode()]),) = parsed(items)
        else:
            ((one, packed_value),) = parsed(items)
            assert (kind, one) == (3, 1)
            ((_, value),) = parsed(b"\x08" + packed_value)
            values[name.decode()] = value - 2**64 if value >= 2**63 else value
    return values


@pytest.mark.parametrize("number", [0, 127, 128, 299_999, 2**62, -1])
def test_a_record_holds_what_was_put_in(number):
    features = {"image": bytes(range(256)) * 12, "label": 7, "id": number}
    assert unpacked(record(example(features))) == features


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unlabelled")
    return str(packed(kaggle(train=12, test=7), "zip", folder / "it.zip"))


@needs_dali
def test_dali_records_and_indexes_are_exact(tmp_path, unlabelled):
    dataset = convert(unlabelled, tmp_path / "out", formats=("dali",), split_seed=2)
    folder = dataset.path / "dali"
    for part in ("train", "test"):
        content = (folder / f"{part}.tfrecord").read_bytes()
        lines = (folder / f"{part}.idx").read_text().splitlines()
        samples = Samples(dataset, part)
        assert len(lines) == len(samples)
        assert sum(int(line.split()[1]) for line in lines) == len(content)
        for row, line in enumerate(lines):
            offset, size = map(int, line.split())
            image, label, _ = samples[row]
            expected = {"image": image.tobytes(), "label": label, "id": row}
            assert unpacked(content[offset : offset + size]) == expected
        assert (label == -1) == (part == "test")
        if part == "train":
            for split in ("training", "validation"):
                chosen = (folder / f"{split}.idx").read_text().splitlines()
                assert chosen == [lines[row] for row in dataset.ids(split)]
    assert verify(dataset.path).manifest["formats"] == ["raw", "dali"]


@needs_ffcv
def test_ffcv_files_are_exact_and_other_threads_keep_theirs(tmp_path, unlabelled):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        dataset = convert(unlabelled, tmp_path / "out", formats=("ffcv", "raw", "ffcv"))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    from ffcv.reader import Reader

    for part in ("train", "test"):
        samples = Samples(dataset, part)
        path = dataset.path / "ffcv" / f"{part}.beton"
        reader = Reader(str(path))
        assert list(reader.handlers) == ["image", "label", "id"]
        content = path.read_bytes()
        for row, (image, label, number) in enumerate(reader.metadata):
            assert content[image["data_ptr"] :][:3072] == samples[row][0].tobytes()
            assert (image["mode"], image["width"], image["height"]) == (1, 32, 32)
            assert (label, number) == (samples[row][1], row)
        assert (label == -1) == (part == "test")
    assert verify(dataset.path).manifest["tools"]["ffcv"]


@needs_ffcv
@needs_dali
def test_other_formats_do_not_change_the_identity(tmp_path):
    plain = convert("synthetic:2100", tmp_path / "plain")  # more than two batches are read back
    full = convert("synthetic:2100", tmp_path / "full", formats=("raw", "ffcv", "dali"))
    assert full.manifest["formats"] == ["raw", "ffcv", "dali"]
    assert full.sha256 == plain.sha256
    names = {"ffcv/train.beton", "ffcv/test.beton", "dali/train.tfrecord", "dali/validation.idx", "dali/test.idx"}
    assert names <= full.manifest["files"].keys()
    assert convert("synthetic:2100", tmp_path / "full", formats=("dali",), overwrite=True).sha256 == plain.sha256
    assert not (tmp_path / "full" / "ffcv").exists()


@pytest.fixture
def samples(tmp_path) -> Samples:
    return Samples(convert("synthetic:10", tmp_path / "it"), "train")


@pytest.mark.parametrize("fault", ["pixel", "label", "id", "one less", "one more"])
def test_a_difference_read_back_is_an_error(tmp_path, samples, fault):
    rows = np.arange(10)
    images, labels, ids = samples.images.copy(), samples.labels.copy(), rows.copy()
    samples.compare(
        tmp_path / "x.beton", rows, iter([(images[:6], labels[:6], ids[:6]), (images[6:], labels[6:], ids[6:])])
    )
    if fault == "pixel":
        images[7, 31, 31, 2] ^= 1
    if fault == "label":
        labels[7] += 1
    if fault == "id":
        ids[7] = 8
    chosen = {"one less": rows[:-1], "one more": np.append(rows, 0)}.get(fault, rows)
    message = {"one less": "with 9 of its 10 images", "one more": "with more than its 10 images"}.get(
        fault, "with image 7 changed"
    )
    with pytest.raises(FastcifarError, match=rf"x\.beton reads back {message}"):
        samples.compare(tmp_path / "x.beton", rows, iter([(images[chosen], labels[chosen], ids[chosen])]))


@pytest.mark.parametrize("name", [pytest.param("ffcv", marks=needs_ffcv), pytest.param("dali", marks=needs_dali)])
def test_a_file_damaged_while_written_is_noticed(tmp_path, monkeypatch, name):
    form = importlib.import_module(f"fastcifar.data.formats.{name}")
    read = form._read

    def damage(path, *rest):
        content = bytearray(path.read_bytes())
        place = content.index(dataset_image)
        content[place + 5] ^= 1
        path.write_bytes(content)
        return read(path, *rest)

    dataset_image = Dataset.open(convert("synthetic:50", tmp_path / "plain").path).images("train")[20].tobytes()
    monkeypatch.setattr(form, "_read", damage)
    with pytest.raises(FastcifarError, match="reads back with image 20 changed"):
        convert("synthetic:50", tmp_path / "out", formats=(name,))
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


@needs_ffcv
def test_a_disk_that_fills_up_under_ffcv_is_noticed(tmp_path, monkeypatch):
    from ffcv.memory_allocator import MemoryAllocator

    enter = MemoryAllocator.__enter__

    def short(self):
        enter(self)
        write = self.fp.write

        class File:
            """FFCV's unbuffered file, as it is on a full disk: it takes a part and says so; FFCV does not listen."""

            def __getattr__(_, name):
                return getattr(self.fp_, name)

            def write(_, content):
                return write(content[:1000])

        self.fp_, self.fp = self.fp, File()

    monkeypatch.setattr(MemoryAllocator, "__enter__", short)
    with pytest.raises(FastcifarError, match=r"disk full while writing .*ffcv/train\.beton"):
        convert("synthetic:50", tmp_path / "out", formats=("ffcv",))
    assert not list(tmp_path.iterdir())


@needs_dali
def test_a_disk_that_fills_up_under_dali_is_noticed(tmp_path, monkeypatch):
    form = importlib.import_module("fastcifar.data.formats.dali")

    def full(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(form, "record", full)
    with pytest.raises(FastcifarError, match=r"disk full while writing .*dali/train\.tfrecord"):
        convert("synthetic:50", tmp_path / "out", formats=("dali",))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "library"), [("ffcv", "ffcv"), ("dali", "nvidia.dali")])
def test_without_the_library_the_error_says_how_to_get_it(tmp_path, monkeypatch, name, library):
    monkeypatch.delitem(sys.modules, f"fastcifar.data.formats.{name}", raising=False)
    for loaded in [loaded for loaded in sys.modules if loaded == library or loaded.startswith(f"{library}.")]:
        monkeypatch.setitem(sys.modules, loaded, None)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=rf"'{name}' cannot be written.*pip install 'fastcifar\[{name}\]'"):
        convert("synthetic:50", tmp_path / "out", formats=(name,))
    assert not list(tmp_path.iterdir())
