"""The scheduler alone, on an executor that is told what to say: nothing is lost, trained twice or forgotten."""

import json
import time
from collections import deque
from itertools import chain
from types import SimpleNamespace

import pytest
import torch

from fastcifar.errors import FastcifarError
from fastcifar.grid.leases import Leases
from fastcifar.grid.messages import Done, Ended, Epoch, Lost, Ready, SentFiles
from fastcifar.grid.packing import packs_of
from fastcifar.grid.scheduler import MOST_LOSSES, Limits, Scheduler
from fastcifar.grid.wanted import Wanted, runs_of
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.failure import failure_of

DATASET = SimpleNamespace(sha256="ab" * 32, ids=lambda split: range(1024))
LINE = {"epoch": 1, "val_accuracy": 0.5}
SUMMARY = {
    "status": "finished", "epochs": 1, "kept_epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0, "seconds": 1.0,
}  # fmt: skip


class Played:
    """An executor whose workers do with each job what ``play`` gives: a list of events."""

    def __init__(self, out, play, workers=("one",)):
        self.out, self.play, self.workers = out, play, list(workers)
        self.events = deque((worker, Ready(worker)) for worker in workers)
        self.trained, self.stopped = [], False

    def start(self, worker, job):
        self.trained.append([spec.run_id for spec in job.specs])
        self.events.extend((worker, event) for event in self.play(job))

    def event(self, timeout):
        return self.events.popleft() if self.events else None

    def stop(self):
        self.stopped = True

    def alive(self):
        return len(self.workers)


def finish(job, out):
    """What a worker tells that trains a job."""
    for spec in job.specs:
        yield Epoch(job.number, spec.run_id, LINE, True)
        yield Ended(job.number, spec.run_id, SUMMARY, None)
    yield Done(job.number)


@pytest.fixture
def packs():
    specs = runs_of(Wanted([1], amp="off"), DATASET, torch.device("cpu")).specs  # two networks, three seeds
    return packs_of(specs, lambda shape: 3)


def scheduled(packs, out, play, **options):
    executor = Played(out, play)
    with Leases(out) as leases:
        results = Scheduler(packs, executor, out, leases, limits=Limits(**options)).run()
        assert not list((out / ".leases").glob("*.json")), "every lease is given back"
    return results, executor


def test_every_run_is_trained_once(packs, tmp_path):
    results, executor = scheduled(packs, tmp_path, lambda job: finish(job, tmp_path))
    assert sorted(chain.from_iterable(executor.trained)) == sorted(spec.run_id for pack in packs for spec in pack.specs)
    assert len(results.finished) == 6
    assert not results.failed
    assert not results.left


def test_what_it_costs_itself_is_told_apart_from_what_it_waits_for(packs, tmp_path, monkeypatch):
    waited = Played.event
    monkeypatch.setattr(Played, "event", lambda self, timeout: (time.sleep(0.05), waited(self, timeout))[1])
    results, _ = scheduled(packs, tmp_path, lambda job: finish(job, tmp_path))
    events = 1 + 2 * len(packs) + 6  # ready; of each job its ends and that it is done
    assert results.seconds > 0.05 * events / 2
    assert 0 < results.own_seconds < results.seconds / 2


def test_a_run_that_fails_is_written_down_and_its_neighbours_go_on(packs, tmp_path):
    bad = packs[0].specs[1]

    def play(job):
        for event in finish(job, tmp_path):
            if isinstance(event, Ended) and event.run_id == bad.run_id:
                event = Ended(job.number, bad.run_id, None, "the disk is full")
            yield event

    results, _ = scheduled(packs, tmp_path, play)
    assert results.failed == {bad.run_id: "the disk is full"}
    assert len(results.finished) == 5
    assert failure_of(RunDirectory.of(bad, tmp_path)) == "the disk is full"
    again, _ = scheduled(packs[:1], tmp_path, lambda job: finish(job, tmp_path))
    assert not again.failed
    assert failure_of(RunDirectory.of(bad, tmp_path)) is None, "taken back as it is tried again"


def test_what_a_lost_worker_had_is_tried_in_halves_until_one_run_alone_is_to_blame(packs, tmp_path):
    bad = packs[0].specs[0].run_id

    def play(job):
        if bad in [spec.run_id for spec in job.specs]:
            yield Lost("killed by SIGKILL")
            yield Ready("one")
        else:
            yield from finish(job, tmp_path)

    results, executor = scheduled(packs, tmp_path, play)
    assert len(results.finished) == 5
    assert list(results.failed) == [bad]
    assert "killed by SIGKILL" in results.failed[bad]
    assert sum(bad in job for job in executor.trained) == MOST_LOSSES
    assert [len(job) for job in executor.trained][:3] == [3, 2, 1]


def test_with_no_worker_left_it_ends(packs, tmp_path):
    executor = Played(tmp_path, lambda job: [Lost("the node is gone")])
    executor.workers = []
    with Leases(tmp_path) as leases, pytest.raises(FastcifarError, match="the node is gone, and no other worker"):
        Scheduler(packs, executor, tmp_path, leases).run()


def test_runs_of_another_process_are_waited_for_and_taken_as_they_are(packs, tmp_path, monkeypatch):
    monkeypatch.setattr("fastcifar.grid.scheduler.LOOK", 0.0)
    theirs = packs[0].specs[0]
    with Leases(tmp_path) as others:
        others.take([theirs.run_id])
        executor = Played(tmp_path, lambda job: finish(job, tmp_path))
        quiet = 0

        def event(timeout):
            nonlocal quiet
            if executor.events:
                return executor.events.popleft()
            quiet += 1
            if quiet == 3:  # the other process is done
                directory = RunDirectory.of(theirs, tmp_path)
                directory.path.mkdir(parents=True)
                directory.finish(SUMMARY | {"epochs": 7})
                others.end([theirs.run_id])
            return None

        executor.event = event
        with Leases(tmp_path) as leases:
            results = Scheduler(packs, executor, tmp_path, leases).run()
    assert theirs.run_id not in chain.from_iterable(executor.trained)
    assert results.finished[theirs.run_id]["epochs"] == 7
    assert len(results.finished) == 6


def test_when_the_time_is_up_the_rest_is_left(packs, tmp_path):
    def play(job):
        yield Epoch(job.number, job.specs[0].run_id, LINE, True)
        yield Done(job.number)  # stopped

    results, executor = scheduled(packs, tmp_path, play, budget=-1.0)
    assert executor.stopped
    assert not executor.trained
    assert len(results.left) == 6


def test_files_from_elsewhere_become_run_directories(packs, tmp_path):
    def play(job):
        for spec in job.specs:
            yield SentFiles(spec.run_id, spec.experiment, {"summary.json": json.dumps(SUMMARY).encode()})
        yield from finish(job, tmp_path)

    scheduled(packs, tmp_path, play)
    assert all(RunDirectory.of(spec, tmp_path).summary() for pack in packs for spec in pack.specs)
