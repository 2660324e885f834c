"""What a person sees of a grid: the live table, and what is said where nobody looks."""

import io
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from fastcifar.grid import progress
from fastcifar.grid.messages import Began, Done, Ended, Epoch, Lost, Ready, Said, Within
from fastcifar.grid.progress import Progress
from fastcifar.grid.wanted import Wanted, runs_of
from fastcifar.show.text import duration

WANTED = Wanted([2], only={"batch_size": [128], "lr": [1e-3]}, seeds=[0], overrides={"epochs": [10]}, amp="off")
SPECS = runs_of(WANTED, SimpleNamespace(sha256="ab" * 32, ids=lambda split: range(1024)), torch.device("cpu")).specs
A, B, C = SPECS[:3]


def printed(what, width=160):
    out = io.StringIO()
    Console(file=out, width=width).print(what)
    return out.getvalue()


def line(epoch, accuracy=0.5):
    return {"epoch": epoch, "val_accuracy": accuracy}


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is set."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def test_durations():
    assert [duration(s) for s in (0.4, 89, 90, 5399, 5400, 36000, 4_442_400)] == [
        "0 s",
        "89 s",
        "2 min",
        "90 min",
        "1.5 h",
        "10.0 h",
        "1,234 h",
    ]


def test_the_table_counts_epochs_runs_images_and_the_time_left(clock):
    progress = Progress([A, B, C], finished=5, images=1000)
    progress("cpu", Ready("cpu"))
    progress("cpu", Began(1, "grouped", A.run_id))
    clock.seconds += 10
    progress("cpu", Epoch(1, A.run_id, line(1, 0.3), True))
    progress("cpu", Epoch(1, B.run_id, line(1, 0.4), True))
    shown = printed(progress.table())
    assert "grouped" in shown
    assert "exp 2 cnn, batch 128, sound" in shown
    assert "5 of 8 runs finished" in shown
    assert "2 epochs" in shown
    assert f"best 40.00 % ({B.run_id})" in " ".join(shown.split())
    assert progress.rate() == 2 * 1000 / 10
    assert progress.seconds_left() == (3 * 10 - 2) * 10 / 2  # 28 epochs, 5 s each
    progress("cpu", Ended(1, A.run_id, {"status": "finished", "epochs": 1}, None))
    assert progress.seconds_left() == 0.1 * 10 * 10 / 2  # as early as A, B is done, and C has an epoch before it
    progress("cpu", Ended(1, B.run_id, None, "no memory"))
    progress("cpu", Done(1))
    shown = printed(progress.table())
    assert "6 of 8 runs finished, 1 failed, 1 pack done" in shown
    assert "grouped" not in shown  # no longer in work


def test_epochs_from_before_are_not_speed(clock):
    progress = Progress([A], finished=0, images=1000)
    progress("cpu", Began(1, "serial", A.run_id))
    progress("cpu", Epoch(1, A.run_id, line(4), False))
    assert progress.rate() == 0
    assert progress.seconds_left() is None
    clock.seconds += 2
    progress("cpu", Epoch(1, A.run_id, line(5), True))
    assert progress.seconds_left() == 5 * 2  # of ten epochs five are left


def test_an_epoch_that_was_not_validated_is_no_best(clock):
    progress = Progress([A], finished=0, images=1000)
    progress("cpu", Epoch(1, A.run_id, line(1, None), True))
    assert "best" not in printed(progress.table())


def test_a_report_from_within_an_epoch_is_shown_until_the_epoch_ends(clock):
    progress = Progress([A], finished=0, images=1000)
    progress("cpu", Began(1, "serial", A.run_id))
    progress("cpu", Within(1, "step 120/313, 626 images/s, loss 1.234, 12 s left"))
    shown = printed(progress.table())
    assert "exp 2 cnn" in shown
    assert "cpu: step 120/313, 626 images/s, loss 1.234, 12 s left" in shown
    progress("cpu", Epoch(1, A.run_id, line(1), True))
    assert "step 120" not in printed(progress.table())


def test_where_nobody_looks_there_is_a_line_every_thirty_seconds(clock, capsys, monkeypatch):
    monkeypatch.setattr("fastcifar.show.progress.time.monotonic", lambda: clock.seconds)
    progress = Progress([A, B], finished=3, images=1000)
    progress("cpu", Began(1, "serial", A.run_id))
    for epoch in range(1, 8):
        clock.seconds += 10
        progress("cpu", Epoch(1, A.run_id, line(epoch), True))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("3 of 5 runs finished, 0 packs done, 3 epochs, ")


def test_where_nobody_looks_it_says_what_went_wrong_at_once(capsys):
    with Progress([A, B, C], finished=0, images=1000) as progress:
        progress("cpu", Began(1, "serial", A.run_id))
        progress("cpu", Epoch(1, A.run_id, line(1), True))
        progress("cpu", Ended(1, A.run_id, {"status": "finished", "epochs": 1}, None))
        assert capsys.readouterr() == ("", "")
        progress("cpu", Ended(1, B.run_id, {"status": "diverged", "epochs": 3}, None))
        progress("cpu", Ended(1, C.run_id, None, "the disk is full"))
        progress("cpu", Said("half as many fit"))
        progress("cpu", Lost("the process was killed"))
    out, err = capsys.readouterr()
    assert out == ""
    said = " ".join(err.split())
    assert f"{B.run_id} diverged after 3 epochs" in said
    assert f"{C.run_id} failed: the disk is full" in said
    assert "half as many fit" in said
    assert "the process was killed; its runs are tried again" in said


def test_a_lost_worker_without_runs_has_none_to_try_again(capsys):
    with Progress([A], finished=0, images=1000) as progress:
        progress("cpu", Lost("the node cannot be used"))
    assert capsys.readouterr().err == "the node cannot be used\n"
