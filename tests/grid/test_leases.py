"""Leases: one holder at a time, whoever asks, until it ends, dies or falls silent."""

import json
import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastcifar.grid.leases import Leases

NAMES = ["a", "b", "c"]


def test_what_one_holds_another_does_not_get(tmp_path):
    with Leases(tmp_path) as one, Leases(tmp_path) as other:
        assert one.take(["a", "b"]) == ["a", "b"]
        assert other.take(NAMES) == ["c"]
        assert one.take(["c"]) == []
        one.end(["a", "c"])  # c is not its own
        assert other.take(["a", "c"]) == ["a"]
    with Leases(tmp_path) as third:
        assert third.take(NAMES) == NAMES


def test_of_many_that_ask_at_once_one_gets_it(tmp_path):
    names = [str(n) for n in range(20)]
    holders = [Leases(tmp_path) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda leases: leases.take(names), holders))
    assert sorted(name for got in taken for name in got) == sorted(names)
    for leases in holders:
        leases.close()


@pytest.mark.whole
def test_a_lease_that_is_not_renewed_expires(tmp_path):
    with Leases(tmp_path, expires=0.6) as one:
        one.take(["a"])
        time.sleep(1.0)
        with Leases(tmp_path, expires=0.6) as other:
            assert other.take(["a"]) == []  # renewed meanwhile
    elsewhere(tmp_path, "b")
    with Leases(tmp_path, expires=0.6) as other:
        assert other.take(["b"]) == []
        time.sleep(1.0)
        assert other.take(["b"]) == ["b"]


def elsewhere(folder, name):
    """A lease of a process of another machine, that says no more."""
    holder = {"host": "elsewhere.example", "pid": 1, "started": "1", "token": "another"}
    (folder / ".leases" / f"{name}.json").write_text(json.dumps(holder))


def _take_and_sleep(folder, told):
    Leases(folder).take(["a"])
    told.send("taken")
    time.sleep(60)


def test_the_leases_of_a_process_that_was_killed_are_free_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_take_and_sleep, args=(tmp_path, there))
    process.start()
    assert here.recv() == "taken"
    with Leases(tmp_path) as other:
        assert other.take(["a"]) == []
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert other.take(["a"]) == ["a"]


def test_leases_that_nobody_holds_are_removed_at_the_start(tmp_path):
    with Leases(tmp_path) as one:
        one.take(["held"])
        elsewhere(tmp_path, "silent.for-too.long")
        expired = tmp_path / ".leases" / "silent.for-too.long.json"
        os.utime(expired, (0, 0))
        (tmp_path / ".leases" / "damaged.json").write_text("{")
        with Leases(tmp_path):
            assert {path.name for path in (tmp_path / ".leases").iterdir()} == {".lock", "held.json"}


def test_ending_a_lease_that_another_took_leaves_it_to_them(tmp_path):
    with Leases(tmp_path) as one:
        one.take(["a"])
        elsewhere(tmp_path, "a")  # it was silent for too long
        one.end(["a"])
        assert (tmp_path / ".leases" / "a.json").exists()


def test_a_damaged_lease_is_nobodys(tmp_path):
    with Leases(tmp_path) as one:
        (tmp_path / ".leases" / "a.json").write_text("{")
        assert one.take(["a"]) == ["a"]
