"""Kaggle's CIFAR-10: trainLabels.csv, and ``<id>.png`` in train and test folders or 7z archives, zipped or not."""

import csv
import io
import re
from collections.abc import Iterator, Sequence

import numpy as np

from fastcifar.data.sources.archives import open_7z
from fastcifar.data.sources.files import Files
from fastcifar.data.sources.images import IMAGE_LIMIT, decode_chunks
from fastcifar.data.sources.source import CIFAR10, I64, U8, Chunk, Source
from fastcifar.errors import FastcifarError
from fastcifar.show.text import quoted

LABELS, SUBMISSION = "trainLabels.csv", "sampleSubmission.csv"
CSV_LIMIT = 64 << 20  # bytes; 300,000 lines take 5 MB
CURE = "download the competition's files again"


def looks_like_kaggle(names: Sequence[str]) -> bool:
    """Return whether file names belong to a Kaggle download, complete or not."""
    return any(re.fullmatch(rf"([^/]+/)?({LABELS}|{SUBMISSION}|train\.7z|test\.7z)", name) for name in names)


class Kaggle(Source):
    """A Kaggle download. Row i of train has Kaggle's id i + 1; the test rows are sorted by Kaggle's id (``test_ids``).

    trainLabels.csv lists the required train images, and sampleSubmission.csv the required test images. Without
    sampleSubmission.csv, there are no test images or their ids are 1, 2, 3, ... An unpacked folder has priority over
    its 7z archive; it may hold a folder of its own name, as train/train/1.png.
    """

    kind = "a Kaggle download"

    def __init__(self, files: Files) -> None:
        self._outer = files
        self._nested: list[Files] = []
        self.name = f"Kaggle's files in {files.title}"
        self.classes = CIFAR10
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        files = self._outer
        labels = [name for name in files.names if name.rpartition("/")[2] == LABELS]
        if len(labels) != 1:
            raise FastcifarError(f"{files.name} has {len(labels)} files called {LABELS}; one is needed: {CURE}")
        self._base = labels[0][: -len(LABELS)]
        self._labels = self._read_labels()
        self._ids = {"train": np.arange(1, len(self._labels) + 1)}
        self._members = {"train": self._find("train")}
        self._check_ids("train", f"of {LABELS}")
        listed = self._base + SUBMISSION in files.names
        if listed or self._has("test"):
            self._members["test"] = self._find("test")
            self._ids["test"] = self.test_ids = self._expected_test_ids()
            self._check_ids("test", f"of {SUBMISSION}")
        self.counts = {part: len(ids) for part, ids in self._ids.items()}

    def chunks(self, part: str) -> Iterator[Chunk]:
        files, members = self._members[part]
        ids, labels = self._ids[part], self._labels if part == "train" else None
        contents = files.stream(members.keys(), IMAGE_LIMIT)
        named = (
            (int(np.searchsorted(ids, members[name])), f"{name!r} in {files.name}", content)
            for name, content in contents
        )
        for rows, images in decode_chunks(named):
            yield Chunk(rows, images, None if labels is None else labels[rows])

    def sha256(self) -> str:
        return self._outer.sha256()

    def close(self) -> None:
        for files in [*self._nested, self._outer]:
            files.close()

    def _has(self, part: str) -> bool:
        start = self._base + part
        return any(name == f"{start}.7z" or name.startswith(f"{start}/") for name in self._outer.names)

    def _find(self, part: str) -> tuple[Files, dict[str, int]]:
        """Return the folder or archive with the images of a part, and {member name: Kaggle id}."""
        folder, archive = f"{self._base}{part}/", f"{self._base}{part}.7z"
        files, names = self._outer, [name for name in self._outer.names if name.startswith(folder)]
        if not names:
            if archive not in files.names:
                raise FastcifarError(
                    f"{files.name} has neither {folder} nor {archive}: {CURE}"
                    + (f", or move {SUBMISSION} to another place to do without test images" if part == "test" else "")
                )
            files = open_7z(f"{files.name}/{archive}", files.open(archive))
            self._nested.append(files)
            names, folder = list(files.names), f"{part}/"
        members = {}
        for name in names:
            match = re.fullmatch(rf"(?:{re.escape(folder)})?(?:{part}/)?([1-9][0-9]{{0,17}})\.png", name)
            if not match:
                raise FastcifarError(
                    f"{files.name} holds {quoted(name)} where only <id>.png files belong; move it to another place, or "
                    f"{CURE}"
                )
            members[name] = int(match[1])
        if not members:
            raise FastcifarError(f"{files.name} holds no {part} images: {CURE}")
        return files, members

    def _check_ids(self, part: str, whose: str) -> None:
        """Raise FastcifarError for a missing, duplicate or additional image. whose: the list of ids, for messages."""
        files, members = self._members[part]
        present = np.sort(np.fromiter(members.values(), np.int64, len(members)))
        if len(twice := present[1:][present[1:] == present[:-1]]):
            raise FastcifarError(f"{files.name} holds {part} image {twice[0]}.png twice; keep only one of the two")
        expected = self._ids[part]
        if len(missing := np.setdiff1d(expected, present)):
            raise FastcifarError(
                f"{files.name}: {len(missing):,} {part} images {whose} are missing, the first {missing[0]}.png: {CURE}"
            )
        if len(extra := np.setdiff1d(present, expected)):
            raise FastcifarError(
                f"{files.name}: {len(extra):,} {part} images are not {whose}, the first {extra[0]}.png: {CURE}"
            )

    def _read_csv(self, name: str) -> Iterator[tuple[int, str]]:
        """Yield (id, label) of each line of a CSV file below its header."""
        where = f"{self._base}{name} in {self._outer.name}"
        try:
            text = self._outer.read(self._base + name, CSV_LIMIT).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise FastcifarError(f"{where} is not UTF-8 text ({error}): {CURE}") from error
        lines = csv.reader(io.StringIO(text, newline=""))
        try:
            if next(lines, None) != ["id", "label"]:
                raise FastcifarError(f"{where} does not start with the line id,label: {CURE}")
            for line in lines:
                if len(line) != 2 or not re.fullmatch(r"[1-9][0-9]{0,17}", line[0]):
                    raise FastcifarError(
                        f"{where}, line {lines.line_num}: {quoted(','.join(line))} is not an id and a label: {CURE}"
                    )
                yield int(line[0]), line[1]
        except csv.Error as error:  # such as a field of more than 131,072 characters
            raise FastcifarError(f"{where}, line {lines.line_num}, is not CSV ({error}): {CURE}") from error

    def _read_labels(self) -> U8:
        """Return the labels of the ids 1 to n, (n,) uint8."""
        labels: dict[int, int] = {}
        where = f"{self._base}{LABELS} in {self._outer.name}"
        for number, label in self._read_csv(LABELS):
            if label not in CIFAR10:
                raise FastcifarError(
                    f"{where}: id {number} has the label {quoted(label)}, which is none of {', '.join(CIFAR10)}: {CURE}"
                )
            if number in labels:
                raise FastcifarError(f"{where}: id {number} is there twice: {CURE}")
            labels[number] = CIFAR10.index(label)
        for number in range(1, len(labels) + 1):
            if number not in labels:
                raise FastcifarError(
                    f"{where}: id {number} is missing, though there are {len(labels):,} labels: {CURE}"
                )
        if not labels:
            raise FastcifarError(f"{where} has no labels: {CURE}")
        return np.array([labels[number] for number in range(1, len(labels) + 1)], np.uint8)

    def _expected_test_ids(self) -> I64:
        """Return the ids of sampleSubmission.csv, ascending int64; without the file, 1 to the highest image id."""
        if self._base + SUBMISSION not in self._outer.names:
            return self._ids_up_to_the_highest()
        ids = np.sort(np.array([number for number, _ in self._read_csv(SUBMISSION)], np.int64))
        if len(twice := ids[1:][ids[1:] == ids[:-1]]):
            raise FastcifarError(
                f"{self._base}{SUBMISSION} in {self._outer.name}: id {twice[0]} is there twice: {CURE}"
            )
        return ids

    def _ids_up_to_the_highest(self) -> I64:
        """Return 1, 2, 3, ... for test images that have just these ids. Raises FastcifarError where some are missing.

        The ids are names of files and may be as large as 10^18 - 1, so they decide no size of memory.
        """
        files, members = self._members["test"]
        ids = np.unique(np.fromiter(members.values(), np.int64, len(members)))
        expected = np.arange(1, len(ids) + 1)
        if (wrong := ids != expected).any():
            raise FastcifarError(
                f"{files.name}: {ids[-1] - len(ids):,} test images below the highest are missing, the first "
                f"{expected[wrong][0]}.png of those up to {ids[-1]}.png: {CURE}"
            )
        return expected
