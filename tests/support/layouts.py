"""Tiny copies of CIFAR-100, CIFAR-10.1, CIFAR-10-C and SVHN in the exact layout of the real files."""

import io
import pickle

import numpy as np
from scipy.io import savemat

from fastcifar.data.sources.source import CIFAR100
from support.builders import Tree, pixels, planes

COUNTS = {"train": 120, "test": 20}  # images of the tiny CIFAR-100
COARSE = tuple(f"superclass_{number}" for number in range(20))


def fine_labels(part: str) -> list[int]:
    return [number % 100 for number in range(COUNTS[part])]


def coarse_labels(part: str) -> list[int]:
    return [label // 5 for label in fine_labels(part)]


def cifar100_python(root: str = "cifar-100-python/") -> Tree:
    """Return the python archive's files. Image i of train is pixels(i), that of test pixels(1000 + i)."""
    meta = {b"fine_label_names": list(CIFAR100), b"coarse_label_names": list(COARSE)}
    tree = {f"{root}file.txt~": b"backup", f"{root}meta": pickle.dumps(meta, 2)}
    for part, count in COUNTS.items():
        batch = {
            b"filenames": [b"bos_s_000507.png"] * count,
            b"batch_label": b"training batch 1 of 1",
            b"fine_labels": fine_labels(part),
            b"coarse_labels": coarse_labels(part),
            b"data": planes(1000 * (part == "test"), count),
        }
        tree[f"{root}{part}"] = pickle.dumps(batch, 2)
    return tree


def cifar100_binary(root: str = "cifar-100-binary/") -> Tree:
    """Return the binary archive's files, with the images of `cifar100_python`."""
    tree = {
        f"{root}fine_label_names.txt": "\n".join([*CIFAR100, ""]).encode(),
        f"{root}coarse_label_names.txt": "\n".join([*COARSE, ""]).encode(),
    }
    for part, count in COUNTS.items():
        labels = np.array([coarse_labels(part), fine_labels(part)], np.uint8).T
        tree[f"{root}{part}.bin"] = np.hstack([labels, planes(1000 * (part == "test"), count)]).tobytes()
    return tree


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    """Return an array as the bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def cifar10_1(*versions: str, root: str = "") -> Tree:
    """Return the files of versions of CIFAR-10.1, with 20 images each: image i is pixels(i)."""
    tree = {}
    for version in versions:
        tree[f"{root}cifar10.1_{version}_data.npy"] = npy(np.stack([pixels(number) for number in range(20)]))
        tree[f"{root}cifar10.1_{version}_labels.npy"] = npy(np.arange(20, dtype=np.int32) % 10)
    return tree


def corrupted(classes: int = 10, root: str = "CIFAR-10-C/") -> Tree:
    """Return a CIFAR-10-C of 4 test images in 5 severities: image i of severity k of fog is pixels(100 * k + i).

    The images of gaussian_noise have numbers 1000 higher. classes: 10, or 100 for CIFAR-100-C.
    """
    labels = np.array([0, 3, 7, classes - 1] * 5, np.uint8)
    tree = {f"{root}README.txt": b"the first fifth is severity 1", f"{root}labels.npy": npy(labels)}
    for first, name in ((0, "fog"), (1000, "gaussian_noise")):
        numbers = [first + 100 * severity + image for severity in range(1, 6) for image in range(4)]
        tree[f"{root}{name}.npy"] = npy(np.stack([pixels(number) for number in numbers]))
    return tree


def mat(**arrays: np.ndarray) -> bytes:
    """Return arrays as the bytes of a compressed .mat file."""
    file = io.BytesIO()
    savemat(file, arrays, do_compression=True)
    return file.getvalue()


def svhn(train: int = 12, test: int = 3, extra: bool = False) -> Tree:
    """Return SVHN's cropped digits. Image i of train is pixels(i), the digit i % 10; that of test is pixels(50 + i)."""
    tree = {}
    for name, first, count in (("train", 0, train), ("test", 50, test), ("extra", 90, 2 * extra)):
        if count:
            images = np.stack([pixels(first + number) for number in range(count)], axis=-1)
            labels = np.array([[number % 10 or 10] for number in range(count)], np.uint8)
            tree[f"{name}_32x32.mat"] = mat(X=images, y=labels)
    return tree
