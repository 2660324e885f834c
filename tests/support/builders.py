"""Tiny archives of every kind, for the tests of sources and conversion."""

import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SEVEN_ZIP = "7z"
TAR_MODES = {"tar": "w", "tar.gz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}
KINDS = ("folder", "zip", *TAR_MODES, SEVEN_ZIP)

Tree = dict[str, bytes]  # file name: content


def pixels(number: int) -> np.ndarray:
    """Return an image, (32, 32, 3) uint8, that differs for each number."""
    return np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)


def encoded(image: np.ndarray | Image.Image, kind: str = "png") -> bytes:
    """Return an image as the bytes of an image file."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind)
    return file.getvalue()


def png(number: int) -> bytes:
    return encoded(pixels(number))


def packed(tree: Tree, kind: str, path: Path) -> Path:
    """Write the tree at ``path``, as a folder or an archive of one of KINDS, in the tree's order."""
    if kind == "folder":
        for name, content in tree.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in tree.items():
                archive.writestr(name, content)
    elif kind == SEVEN_ZIP:
        path.write_bytes(seven_zip(tree))
    else:
        with tarfile.open(path, TAR_MODES[kind]) as archive:
            for name, content in tree.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def seven_zip(tree: Tree, password: str | None = None) -> bytes:
    py7zr = pytest.importorskip("py7zr")  # an extra: whatever needs a 7z archive is skipped without it
    file = io.BytesIO()
    filters = None if password else [{"id": py7zr.FILTER_LZMA2, "preset": 0}]
    with py7zr.SevenZipFile(file, "w", filters=filters, password=password) as archive:
        for name, content in tree.items():
            archive.writestr(content, name)
    return file.getvalue()


def class_folders(classes: tuple[str, ...] = ("cat", "ant"), train: int = 4, test: int = 0, root: str = "") -> Tree:
    """Return train/<class>/<number>.png with ``train`` images a class, and test/... with ``test``, all different."""
    tree = {}
    for part, count in (("train", train), ("test", test)):
        for name in classes:
            for number in range(count):
                tree[f"{root}{part}/{name}/{number}.png"] = png(len(tree))
    return tree


def kaggle(train: int = 12, test: int = 7, unpacked: bool = True) -> Tree:
    """Return Kaggle's files, in a random order. The image with id i is png(i) in train and png(1000 + i) in test."""
    order = np.random.default_rng(0).permutation
    images = {
        "train": {f"train/{i + 1}.png": png(i + 1) for i in order(train)},
        "test": {f"test/{i + 1}.png": png(1000 + i + 1) for i in order(test)},
    }
    tree: Tree = {}
    for part, members in images.items():
        tree |= members if unpacked else {f"{part}.7z": seven_zip(members)}
    tree["trainLabels.csv"] = csv_of([(i, CIFAR10[i % 10]) for i in range(1, train + 1)])
    tree["sampleSubmission.csv"] = csv_of([(i, "cat") for i in range(1, test + 1)])
    return tree


def csv_of(lines: list[tuple[int, str]]) -> bytes:
    return "".join(f"{a},{b}\n" for a, b in [("id", "label"), *lines]).encode()


def planes(first: int, count: int) -> np.ndarray:
    """Return pixels(first), ... as (count, 3072) uint8, channel by channel as in the original archives."""
    return np.stack([pixels(first + i).transpose(2, 0, 1).ravel() for i in range(count)])


def original_binary(count: int) -> Tree:
    """Return the binary archive's files with ``count`` images each. Image i of batch b is ``pixels(b * count + i)``."""
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    tree = {"cifar-10-batches-bin/batches.meta.txt": "\n".join([*CIFAR10, "", ""]).encode()}
    for batch, name in enumerate(names):
        labels = np.arange(count, dtype=np.uint8)[:, None] % 10
        tree[f"cifar-10-batches-bin/{name}"] = np.hstack([labels, planes(batch * count, count)]).tobytes()
    return tree


def original_python(count: int, modern: bool = False) -> Tree:
    """Return the python archive's files, pickled as by Python 2, like the real files, or in protocol 2 (modern)."""
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    meta = {"label_names": list(CIFAR10), "num_cases_per_batch": count, "num_vis": 3072}
    tree = {"cifar-10-batches-py/batches.meta": pickle.dumps(meta, 2), "cifar-10-batches-py/readme.html": b"<html>"}
    for batch, name in enumerate(names):
        data, labels = planes(batch * count, count), [number % 10 for number in range(count)]
        content = {b"data": data, b"labels": labels, b"batch_label": b"one of six", b"filenames": [b"a.png"] * count}
        tree[f"cifar-10-batches-py/{name}"] = pickle.dumps(content, 2) if modern else python2_pickle(data, labels)
    return tree


def python2_pickle(data: np.ndarray, labels: list[int]) -> bytes:
    """Return a batch in the pickle opcodes with which Python 2's cPickle wrote the real files."""

    def text(content: bytes) -> bytes:
        return b"U" + bytes([len(content)]) + content

    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2
    shape = b"".join(b"M" + struct.pack("<H", size) for size in data.shape)
    state = (
        b"(K\x01" + shape + b"\x86" + dtype + b"K\x00tb\x89T" + struct.pack("<I", data.size) + data.tobytes() + b"tb"
    )
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R" + state
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + numbers + b"u."
