"""Sources that need no file: scikit-learn's digits, synthetic noise, and torchvision's downloads of CIFAR."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastcifar.data.sources.source import CIFAR10, I64, IMAGE_SHAPE, U8, Chunk, Source
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.rng.philox import Stream, key_of, permutation, philox4x32, scaled, words

DIGITS_TEST = 297  # of the 1,797 digits; 1,500 remain for training
DIGITS_MAX = 16  # the largest pixel value of a digit
SYNTHETIC_LIMIT = 10_000_000  # images, which take 30 GB
CHUNK = 1024  # images in a chunk
DOWNLOADS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}  # torchvision's classes
BLOCKS = 192  # Philox blocks of 4 words of 4 bytes: together the 3,072 bytes of an image


class Digits(Source):
    """scikit-learn's 1,797 handwritten digits (8×8 pixels, values 0 to 16): 1,500 train and 297 test images.

    Each pixel becomes a 4×4 block of round(value × 255 / 16) in all three channels. The test images are the first 297
    of a fixed permutation. Both parts keep scikit-learn's order.
    """

    def __init__(self) -> None:
        self.name = "digits (scikit-learn's handwritten digits, each pixel a 4×4 block)"
        self.classes = tuple("0123456789")
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise UsageError(f"digits needs scikit-learn ({error}): pip install scikit-learn") from error
        digits = load_digits()
        grey = (digits.images.astype(np.uint32) * 255 + DIGITS_MAX // 2) // DIGITS_MAX
        images = np.repeat(grey.astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=3)
        test = np.zeros(len(images), bool)
        test[permutation(len(images), 0, Stream.IMAGES)[:DIGITS_TEST]] = True
        self._parts = {part: (images[mine], digits.target[mine].astype(np.uint8)) for part, mine in
                       (("train", ~test), ("test", test))}  # fmt: skip
        self.counts = {part: len(images) for part, (images, _) in self._parts.items()}

    def chunks(self, part: str) -> Iterator[Chunk]:
        images, labels = self._parts[part]
        yield Chunk(np.arange(len(images)), images, labels)


class Synthetic(Source):
    """N train images of uniform noise with uniform random labels, and N // 5 such test images.

    There is nothing to learn in them. Byte b of image i is a byte of the Philox words of (stream IMAGES, id i,
    block b // 16); the label uses the next block, BLOCKS.
    The epoch word of the counter is 0 for train and 1 for test.
    """

    def __init__(self, count: int) -> None:
        if not 5 <= count <= SYNTHETIC_LIMIT:
            raise UsageError(f"synthetic:{count} is out of range; choose from 5 to {SYNTHETIC_LIMIT:,} images")
        self.name = f"synthetic:{count} (uniform noise, random labels)"
        self.classes = CIFAR10
        self.counts = {"train": count, "test": count // 5}

    def chunks(self, part: str) -> Iterator[Chunk]:
        for start in range(0, self.counts[part], CHUNK):
            rows = np.arange(start, min(start + CHUNK, self.counts[part]))
            yield Chunk(rows, *noise(rows, epoch=("train", "test").index(part)))


def noise(ids: I64, epoch: int) -> tuple[U8, U8]:
    """Return images (n, 32, 32, 3) uint8 and labels (n,) uint8 in [0, 10). ids: (n,) int64. epoch: 0 train, 1 test."""
    counters = philox4x32((ids[:, None], epoch, int(Stream.IMAGES), np.arange(BLOCKS)), key_of(0))
    images = np.stack(counters, axis=-1).astype("<u4").view(np.uint8).reshape(-1, *IMAGE_SHAPE)
    labels = scaled(words(0, Stream.IMAGES, ids, epoch, BLOCKS)[0], len(CIFAR10))
    return images, labels.astype(np.uint8)


def download(folder: Path, name: str) -> Path:
    """Download an original python archive (170 MB) into ``folder`` with torchvision, and return its path.

    name: a key of DOWNLOADS.

    torchvision checks the MD5. Raises UsageError without torchvision, FastcifarError if the download fails.
    """
    try:
        from fastcifar.system.vision import torchvision
    except UsageError as error:
        raise UsageError(f"{name} needs torchvision to fetch it: {error}") from error
    dataset, download_url = getattr(torchvision.datasets, DOWNLOADS[name]), torchvision.datasets.utils.download_url
    try:
        download_url(dataset.url, str(folder), dataset.filename, dataset.tgz_md5)
    except (OSError, RuntimeError) as error:  # no network, or a wrong checksum
        raise FastcifarError(
            f"cannot download {dataset.url}: {error}; where there is no network, give the path of a copy of the archive"
        ) from error
    return folder / str(dataset.filename)
