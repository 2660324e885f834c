"""A grid's worker: it tells what happens, in order, and outlives whatever befalls a pack."""

import pytest
from support.runs import spec_of

from fastcifar.grid import worker as working
from fastcifar.grid.messages import Began, Done, Ended, Epoch, Job
from fastcifar.grid.worker import Worker
from fastcifar.runs.directory import RunDirectory

EPOCHS = 2


@pytest.fixture
def job(synthetic):
    return Job(7, tuple(spec_of(synthetic, lr=1e-3, seed=seed, epochs=EPOCHS) for seed in range(3)), most=3)


def told_by(worker, job):
    told = []
    worker.train(job, told.append)
    assert told[-1] == Done(7)
    return told[:-1]


def of(kind, told):
    return [event for event in told if isinstance(event, kind)]


def test_epochs_then_ends_then_done(synthetic, tmp_path, job):
    told = told_by(Worker(synthetic, tmp_path, "cpu", way="serial"), job)
    assert told[0] == Began(7, "serial", job.specs[0].run_id)
    assert [event.line["epoch"] for event in of(Epoch, told)] == list(range(1, EPOCHS + 1)) * 3
    assert all(event.new for event in of(Epoch, told))
    assert [event.summary["status"] for event in of(Ended, told)] == ["finished"] * 3
    assert [event.run_id for event in of(Ended, told)] == [spec.run_id for spec in job.specs]


def test_epochs_from_before_are_told_as_such(synthetic, tmp_path, job):
    worker = Worker(synthetic, tmp_path, "cpu", way="serial")

    def tell(event):
        if isinstance(event, Epoch):
            worker.stop.set()

    worker.train(job, tell)
    (line,) = RunDirectory.of(job.specs[0], tmp_path).metrics()
    told = told_by(Worker(synthetic, tmp_path, "cpu", way="serial"), job)
    assert [event.new for event in of(Epoch, told)] == [False] + [True] * (3 * EPOCHS - 1)
    assert of(Epoch, told)[0].line == line


def test_a_run_that_cannot_be_read_is_not_its_neighbours_fault(synthetic, tmp_path, job):
    damaged = RunDirectory.of(job.specs[1], tmp_path)
    damaged.path.mkdir(parents=True)
    (damaged.path / "metrics.jsonl").write_bytes(b"what is this\n")
    told = told_by(Worker(synthetic, tmp_path, "cpu", way="grouped"), job)
    errors = {event.run_id: event.error for event in of(Ended, told)}
    assert "metrics.jsonl is damaged" in errors.pop(job.specs[1].run_id)
    assert set(errors.values()) == {None}
    assert len(errors) == 2


def test_what_breaks_a_pack_fails_those_that_had_not_ended(synthetic, tmp_path, job, monkeypatch):
    def broken(specs, dataset, out, device, options, callbacks):
        callbacks.ended(specs[1], {"status": "finished"})
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(working, "train_pack", broken)
    told = told_by(Worker(synthetic, tmp_path, "cpu", way="serial"), job)
    assert {event.run_id: event.error for event in of(Ended, told)} == {
        job.specs[0].run_id: "ZeroDivisionError: a fault of ours",
        job.specs[1].run_id: None,
        job.specs[2].run_id: "ZeroDivisionError: a fault of ours",
    }
