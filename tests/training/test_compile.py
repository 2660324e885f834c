"""--compile: what each mode is, what it refuses, and how auto chooses."""

import dataclasses
import weakref

import pytest
import torch
from support.runs import CPU, spec_of

from fastcifar.errors import UsageError
from fastcifar.pipeline import Pipeline
from fastcifar.runs.directory import RunDirectory
from fastcifar.system import devices
from fastcifar.training import session
from fastcifar.training.batches import open_pipelines
from fastcifar.training.compile import Choice, choose_mode, steps_of
from fastcifar.training.learner import Learner
from fastcifar.training.loop import train
from fastcifar.training.modes import MODES
from fastcifar.training.options import Options
from fastcifar.training.steps import Eager
from fastcifar.training.trial import TooSlow


@pytest.fixture
def training(synthetic):
    pipelines = open_pipelines(spec_of(synthetic), synthetic, CPU)
    yield pipelines[0]
    for pipeline in pipelines:
        pipeline.close()


def test_none_is_step_by_step(synthetic, training):
    learner = Learner.new(spec_of(synthetic), 10, CPU)
    assert isinstance(steps_of("none", learner, training), Eager)
    assert learner.network is None


def test_a_graph_needs_cuda_and_says_so(synthetic, training):
    learner = Learner.new(spec_of(synthetic), 10, CPU)
    with pytest.raises(UsageError, match=r"graph needs one CUDA device .* on cpu with pipeline 'resident'; choose"):
        steps_of("graph", learner, training)
    with pytest.raises(UsageError, match="--compile 'fast' is not one of graph, inductor, none"):
        steps_of("fast", learner, training)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of torch.compile
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_inductor_computes_the_same_to_rounding_and_compiles_once(synthetic, device):
    spec, device = spec_of(synthetic, lr=1e-3), devices.device_of(device)
    training, validation = open_pipelines(spec, synthetic, device)
    validation.close()
    one, other = (Learner.new(spec, 10, device) for _ in range(2))
    plain, compiled, graphs = steps_of("none", one, training), steps_of("inductor", other, training), []
    for epoch in (1, 2, 3):
        wanted, got = plain.epoch(epoch), compiled.epoch(epoch)
        assert got.losses.tolist() == pytest.approx(wanted.losses.tolist(), rel=1e-3)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        one.epoch = other.epoch = epoch
    training.close()
    assert graphs[0] == graphs[2] > 0


class Recordable(Pipeline):
    """Says that it renders on the device."""

    def epoch(self, k):
        raise AssertionError("not to be run")

    def renderer(self):
        return object()

    def close(self):
        pass


@pytest.mark.parametrize(
    ("recordable", "seconds", "epochs", "mode", "tried"),
    [
        (True, {"none": 2e-3, "graph": 1e-3}, 100, "graph", "none 2,000 µs a step, graph 1,000 µs a step"),
        (True, {"none": 1e-3, "graph": 2e-3}, 100, "none", "none 1,000 µs a step, graph 2,000 µs a step"),
        (False, {"none": 1e-3}, 100, "none", ""),
        (True, {"none": 9.0, "graph": 6.0, "inductor": 1.0}, 100, "inductor", "inductor 1,000,000 µs a step"),
        (True, {"none": 2.0, "graph": 1.5}, 1, "graph", "graph 1,500,000 µs a step"),
    ],
)
def test_auto_is_the_fastest_of_what_is_worth_trying(recordable, seconds, epochs, mode, tried, synthetic, monkeypatch):
    pipeline = Recordable if recordable else type("Plain", (Recordable,), {"renderer": lambda self: None})
    monkeypatch.setattr(
        "fastcifar.training.compile.open_pipelines",
        lambda spec, dataset, device: [pipeline(training_request(synthetic))] * 2,
    )
    monkeypatch.setattr(
        "fastcifar.training.compile._seconds", lambda mode, *_: seconds[mode]
    )  # of another one: KeyError
    choice = choose_mode(spec_of(synthetic, epochs=epochs), synthetic, torch.device("cuda"))
    assert choice.mode == mode
    assert tried in choice.why


def training_request(dataset):
    from fastcifar.pipeline import Request

    return Request(dataset, batch_size=16)


@pytest.fixture
def on_cpu(monkeypatch):
    """Return a function that sets the seconds of a step without inductor, and the outcome of inductor's trial. It
    returns the list of the trials' time limits.
    """

    def set_up(none, outcome):
        limits = []

        def within(seconds, waiting, work, *arguments):
            waiting(31.0)
            limits.append(seconds)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr("fastcifar.training.compile._seconds", lambda mode, *_: {"none": none}[mode])
        monkeypatch.setattr("fastcifar.training.compile.within", within)
        return limits

    return set_up


def test_on_the_cpu_a_short_run_has_no_choice(synthetic, on_cpu):
    limits = on_cpu(10.0, AssertionError("not to be tried"))
    assert choose_mode(spec_of(synthetic, epochs=2), synthetic, CPU) == ("none", "")
    assert limits == []


def test_on_the_cpu_a_run_is_as_long_as_its_protocol_lets_it_end(synthetic, on_cpu):
    """5 steps an epoch, at least 30 epochs: early stopping may end a run of 100 epochs there."""
    limits = on_cpu(20.0, (1.0, 60.0))
    choice = choose_mode(spec_of(synthetic, epochs=100), synthetic, CPU)
    assert choice == ("inductor", "none 20,000,000 µs a step, inductor 1,000,000 µs a step")
    assert limits == [pytest.approx(0.1 * 5 * 30 * 20.0)]
    assert choose_mode(spec_of(synthetic, epochs=17), synthetic, CPU) == ("none", "")


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        ((19.9, 60.0), "; inductor 19,900,000 µs a step, which saves less than compiling takes"),
        (TooSlow(), "; the trial of inductor had not ended after 5 min"),
        (RuntimeError("no C++ compiler"), "; inductor fails: no C++ compiler"),
    ],
)
def test_inductor_that_does_not_pay_is_not_chosen_and_the_reason_is_said(outcome, why, synthetic, on_cpu):
    on_cpu(20.0, outcome)
    said = []
    choice = choose_mode(spec_of(synthetic, epochs=100), synthetic, CPU, said.append)
    assert choice == ("none", f"none 20,000,000 µs a step{why}")
    trying = f"{spec_of(synthetic).label}: trying --compile inductor"
    assert said == [f"{trying}, for at most 5 min", f"{trying}, 31 s so far"]


def test_a_graph_that_does_not_fit_leaves_the_other_modes(synthetic, monkeypatch):
    """Memory that is short ends the mode whose trial took it, not the choice."""
    freed, held = [], []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append([each() for each in held]))
    monkeypatch.setattr(
        "fastcifar.training.compile.open_pipelines", lambda *_: [Recordable(training_request(synthetic))] * 2
    )  # fmt: skip

    def seconds(mode, *_):
        learner = Learner.new(spec_of(synthetic), 10, CPU)
        held.append(weakref.ref(learner))
        if mode == "graph":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n20 GiB")
        return {"none": 5.0, "inductor": 1.0}[mode]

    monkeypatch.setattr("fastcifar.training.compile._seconds", seconds)
    choice = choose_mode(spec_of(synthetic, epochs=100), synthetic, torch.device("cuda"))
    assert choice.mode == "inductor"
    assert choice.why.endswith("a step; graph fails: CUDA out of memory. Tried to allocate")
    assert freed[0] == [None, None]  # what the trial held is gone before memory is given back


def test_where_others_train_too_nothing_is_tried(synthetic, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert choose_mode(spec_of(synthetic), synthetic, torch.device("cuda")) == ("none", "")


def test_a_session_says_what_it_chose_once_a_configuration(synthetic, tmp_path, monkeypatch):
    said = []
    specs = [spec_of(synthetic, seed=seed, epochs=1) for seed in (0, 1)]
    monkeypatch.setattr(
        "fastcifar.training.compile.choose_mode", lambda *_: Choice("none", "none 9 µs a step, graph 10 µs a step")
    )
    session.run(specs, synthetic, tmp_path, CPU, Options("auto", say=said.append))
    assert said == [f"{specs[0].label}: --compile none (none 9 µs a step, graph 10 µs a step)"]
    assert RunDirectory.of(specs[0], tmp_path).begun()["mode"] == "none"
    assert RunDirectory.of(specs[1], tmp_path).summary()["mode"] == "none"


def test_auto_goes_on_in_the_mode_that_a_run_was_begun_in(synthetic, tmp_path, monkeypatch):
    spec = spec_of(synthetic, epochs=3)
    modes = []
    monkeypatch.setattr(
        "fastcifar.training.loop.steps_of", lambda mode, *more: modes.append(mode) or steps_of("none", *more)
    )

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(spec, synthetic, tmp_path, CPU, stop, Options("inductor"))
    session.run([spec, dataclasses.replace(spec, seed=5)], synthetic, tmp_path, CPU)
    assert modes == ["inductor", "inductor", "none"]


@pytest.mark.gpu
@pytest.mark.filterwarnings("default")  # torch.compile's own
@pytest.mark.parametrize("mode", ["graph", "inductor"])
def test_on_cuda_a_mode_trains_as_none_does(mode, digits, tmp_path):
    spec, cuda = spec_of(digits, epochs=3, recipe="erasing", batch_size=64), devices.device_of("cuda")
    plain = train(spec, digits, tmp_path / "none", cuda, options=Options("none"))
    other = train(spec, digits, tmp_path / mode, cuda, options=Options(mode))
    # the same kernels in the graph; others, that round otherwise, through torch.compile: Adam makes that grow
    assert other["val_loss"] == pytest.approx(plain["val_loss"], rel=0 if mode == "graph" else 0.2)
    assert other["mode"] == mode
    assert other["peak_device_bytes"] > 0


@pytest.mark.gpu
def test_on_cuda_auto_is_chosen_by_a_trial(digits):
    choice = choose_mode(spec_of(digits, batch_size=64), digits, torch.device("cuda"))
    assert choice.mode in MODES
    assert "graph" in choice.why
