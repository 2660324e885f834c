"""An epoch as replays of one recorded step is an epoch step by step: on CUDA by a graph, elsewhere by its twin, which
does the recorded work again.
"""

import dataclasses
import importlib
from types import SimpleNamespace

import pytest
import torch
from support.syncs import watched_syncs
from support.triton_kernels import gpu, interpreted, on_each

from bench.gpu.loops import twin
from fastcifar.pipeline import Pipeline, Request
from fastcifar.pipeline.arguments import dtype_of
from fastcifar.recipes import RECIPES
from fastcifar.runs.spec import RunSpec
from fastcifar.system.cuda import recorded
from fastcifar.training import pace, steps
from fastcifar.training.learner import Learner
from fastcifar.training.steps import Captured, Eager

device = importlib.import_module("fastcifar.pipelines.resident.device")

somewhere = on_each("on")
SPEC = RunSpec(
    experiment=2, protocol="sound", model="cnn", batch_size=24, lr=1e-3, l2=1e-4, dropout=0.5, recipe="basic", seed=7,
    dataset="", precision="float32",
)  # fmt: skip


@pytest.fixture(autouse=True)
def little_is_timed(monkeypatch):
    """Triton's interpreter takes seconds for what a device does in no time."""
    if gpu.INTERPRETED:
        monkeypatch.setattr(steps, "TIMED", 2)


def both(dataset, on, **changed):
    """A learner and what renders its batches, twice: for steps one by one, and for steps that are recorded."""
    spec = dataclasses.replace(SPEC, dataset=dataset.sha256, **changed)
    request = Request(
        dataset, augment=RECIPES[spec.recipe], batch_size=spec.batch_size, seed=spec.seed, device=torch.device(on),
        dtype=dtype_of(spec.precision),
    )  # fmt: skip
    return [(Learner.new(spec, 10, request.device), device.OnDevice(request)) for _ in range(2)]


class Rendered(Pipeline):
    """A renderer's batches, one by one."""

    def __init__(self, renderer):
        super().__init__(renderer._request)
        self._renderer = renderer

    def epoch(self, k):
        return self._renderer.epoch(k)

    def close(self):
        pass


def captured(learner, renderer):
    return Captured(learner, renderer, twin if learner.device.type == "cpu" else recorded)


def differing(one, other):
    """The names of the tensors that two learners do not have in common, bit by bit."""
    (a, note_a), (b, note_b) = one.state(), other.state()
    assert note_a == note_b
    return [name for name in a if not torch.equal(a[name].cpu(), b[name].cpu())]


@pytest.mark.whole
@somewhere
@pytest.mark.parametrize(("precision", "recipe"), [("float32", "basic"), ("bfloat16", "none"), ("float16", "none")])
def test_replays_are_the_steps_one_by_one(precision, recipe, on, synthetic):
    """Three full batches and a short one, six epochs: 24 steps, the same bits of losses, weights and moments."""
    (one, eager), (other, renderer) = both(synthetic, on, precision=precision, recipe=recipe)
    stepping, replaying = Eager(one, Rendered(eager)), captured(other, renderer)
    for epoch in range(1, 7):
        wanted, got = stepping.epoch(epoch), replaying.epoch(epoch)
        assert got.sizes == wanted.sizes == [24, 24, 24, 8]
        assert got.losses.tolist() == wanted.losses.tolist()
        one.epoch = other.epoch = epoch
    assert differing(one, other) == []


@pytest.mark.whole
@somewhere
@pytest.mark.parametrize(
    ("optimizer", "schedule"), [("sgd", "onecycle"), ("adamw", "cosine"), ("adam", "onecycle"), ("muon", "cosine")]
)
def test_replays_follow_the_schedule_with_every_optimizer(optimizer, schedule, on, synthetic):
    """The learning rate is read by the recorded step, at each replay another one; one epoch is trained twice."""
    settings = {"optimizer": optimizer, "schedule": schedule, "epochs": 2, "smoothing": 0.1, "recipe": "none"}
    (one, eager), (other, renderer) = both(synthetic, on, **settings)
    stepping, replaying = Eager(one, Rendered(eager)), captured(other, renderer)
    for epoch in (1, 2):
        wanted, got = stepping.epoch(epoch), replaying.epoch(epoch)
        assert got.losses.tolist() == wanted.losses.tolist()
        assert float(other.rate.value) == float(one.rate.value)
        one.epoch = other.epoch = epoch
    assert differing(one, other) == []


@pytest.mark.whole
@somewhere
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_recording_leaves_the_learner_as_it_was(precision, on, synthetic):
    (one, _), (other, renderer) = both(synthetic, on, precision=precision, recipe="none")
    places = [value.data_ptr() for value in other.model.state_dict().values()]
    captured(other, renderer)
    assert differing(one, other) == []
    assert [value.data_ptr() for value in other.model.state_dict().values()] == places


@pytest.mark.whole
@somewhere
def test_a_recorded_step_goes_on_with_a_restored_learner(on, synthetic):
    (one, eager), (other, renderer) = both(synthetic, on, recipe="none")
    stepping, replaying = Eager(one, Rendered(eager)), captured(other, renderer)
    stepping.epoch(1)
    one.epoch = 1
    other.restore(*one.snapshot())
    assert replaying.epoch(2).losses.tolist() == stepping.epoch(2).losses.tolist()
    assert differing(one, other) == []


@pytest.mark.whole
@somewhere
def test_a_part_of_an_epoch(on, synthetic):
    (one, eager), (other, renderer) = both(synthetic, on, recipe="none")
    wanted, got = Eager(one, Rendered(eager)).epoch(1, 2), captured(other, renderer).epoch(1, 2)
    assert got.sizes == wanted.sizes == [24, 24]
    assert got.losses.tolist() == wanted.losses.tolist()


@pytest.mark.whole
@somewhere
def test_fewer_samples_than_a_batch_are_one_short_batch(on, synthetic):
    (one, eager), (other, renderer) = both(synthetic, on, batch_size=100, recipe="none")
    wanted, got = Eager(one, Rendered(eager)).epoch(1), captured(other, renderer).epoch(1)
    assert got.sizes == wanted.sizes == [80]
    assert got.losses.tolist() == wanted.losses.tolist()


@pytest.mark.whole
@somewhere
def test_the_time_that_pixels_take_is_a_share_of_the_step(on, synthetic):
    ((_, _), (learner, renderer)) = both(synthetic, on, recipe="none")
    trained = captured(learner, renderer).epoch(1)
    assert 0 < trained.waited <= trained.seconds


@pytest.mark.whole
@interpreted
@pytest.mark.parametrize("batch_size", [80, 50, 24])
def test_no_batch_is_rendered_beyond_the_last_full_one(batch_size, synthetic, monkeypatch):
    """Not even while recording and timing: beyond the order's end there are no ids."""
    ((_, _), (learner, renderer)) = both(synthetic, "cpu", batch_size=batch_size, recipe="none")
    rendered, render = [], renderer.render
    monkeypatch.setattr(
        renderer, "render", lambda order, clock, out: rendered.append(int(clock[2])) or render(order, clock, out)
    )
    captured(learner, renderer).epoch(1)
    assert max(rendered) < 80 // batch_size


@somewhere
def test_a_part_of_an_epoch_without_a_full_batch_is_its_short_one(on, synthetic):
    ((_, _), (learner, renderer)) = both(synthetic, on, batch_size=100, recipe="none")
    assert captured(learner, renderer).epoch(1, 2).sizes == [80]


@pytest.mark.whole
@interpreted
def test_nothing_is_timed_cold(synthetic, monkeypatch):
    """A graph's first replay also sends it to the device: what is timed has been replayed once."""
    ((_, _), (learner, renderer)) = both(synthetic, "cpu", recipe="none")
    replayed, timed = [], []

    def record(rehearsal, work):
        rehearsal()
        return lambda: replayed.append(work.__name__) or work()

    class Noted(steps.Clock):
        def __enter__(self):
            timed.append(list(replayed))
            return super().__enter__()

    monkeypatch.setattr(steps, "Clock", Noted)
    Captured(learner, renderer, record)
    assert len(timed) == 2
    assert set(timed[0]) == {"_step", "_render_often"}


@pytest.mark.gpu
def test_an_epoch_waits_for_the_device_as_often_as_two_steps_do(synthetic):
    """Once, for the losses, however many steps there are."""
    ((_, _), (learner, renderer)) = both(synthetic, "cuda", batch_size=8)
    capture = Captured(learner, renderer)
    capture.epoch(1)

    def waits(at_most):
        torch.cuda.synchronize()
        with watched_syncs("warn") as caught:
            capture.epoch(2, at_most)
        return len(caught)

    assert waits(2) == waits(10) <= 1


@pytest.mark.gpu
def test_memory_stays_flat_over_epochs(synthetic):
    ((_, _), (learner, renderer)) = both(synthetic, "cuda")
    capture = Captured(learner, renderer)
    for epoch in (1, 2):
        capture.epoch(epoch)
    before = torch.cuda.memory_reserved()
    for epoch in range(3, 30):
        capture.epoch(epoch)
    assert torch.cuda.memory_reserved() == before


@somewhere
def test_recorded_steps_report_their_losses(digits, on, monkeypatch):
    monkeypatch.setattr(pace, "FIRST", 0.0)
    monkeypatch.setattr(pace, "EVERY", 0.0)
    (learner, renderer), _ = both(digits, on)
    told = []
    trained = captured(learner, renderer).epoch(1, 2, told.append)
    assert [each.done for each in told] == [1, 2]
    assert [each.loss for each in told] == pytest.approx(trained.losses.tolist(), rel=1e-6)


def test_the_host_runs_at_most_two_fiftieths_of_an_epoch_ahead(monkeypatch):
    """A device that never finishes by itself: the host waits for the mark before the last two."""
    waited = []

    class Stream:
        def record_event(self):
            mark = SimpleNamespace(step=launched)
            mark.synchronize = lambda: waited.append((mark.step, launched))
            return mark

    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    ahead = steps.RunAhead(torch.device("cuda"), 200)
    for launched in range(1, 201):  # noqa: B007 # Stream reads it
        ahead.wait()
    assert waited == [(step, step + 8) for step in range(4, 196, 4)]
    waited.clear()
    without = steps.RunAhead(torch.device("cuda"), 0)
    for _ in range(200):
        without.wait()
    assert waited == []
