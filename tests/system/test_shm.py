"""Shared memory: how many workers have room for their batches, and what a container lacks."""

import os
from types import SimpleNamespace

import pytest

from fastcifar.system import once, shm


@pytest.mark.parametrize(
    ("workers", "batches", "free", "fits"),
    [
        (4, 100, None, (4, 2)),
        (4, 100, 10, (4, 2)),
        (4, 100, 9, (4, 1)),
        (4, 100, 5, (3, 1)),
        (4, 100, 3, (1, 1)),
        (4, 100, 2, (0, 0)),
        (4, 3, 3, (4, 2)),  # an epoch has no more batches than that
    ],
)
def test_as_many_workers_as_have_room(workers, batches, free, fits):
    assert shm.fitting(workers, 1000, batches, free and 1000 * free) == fits


def test_the_free_bytes_are_those_of_the_file_system(monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=16384, f_frsize=4096))
    assert shm.free_bytes() == 64 * shm.MIB

    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "statvfs", missing)
    assert shm.free_bytes() is None


def test_sizes_are_in_whole_pages_and_the_cure_has_room_to_spare():
    assert shm.padded(1, 4096, 4097) == 4 * 4096
    assert shm.cure(100) == "docker run --shm-size=1g"
    assert shm.cure(shm.GIB) == "docker run --shm-size=2g"


def test_a_sentence_is_said_once_for_each_topic(monkeypatch):
    monkeypatch.delenv(once.TOLD, raising=False)
    said = []
    for topic in ("one", "two", "one"):
        once.tell(topic, f"about {topic}", said.append)
    assert said == ["about one", "about two"]
    assert os.environ[once.TOLD] == "one two"
