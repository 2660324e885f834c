"""The choice between ways to train a pack: by measurement, which is kept, and never slower than serial."""

import json
import weakref
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from support.runs import CPU, spec_of

from fastcifar.errors import DoesNotFit
from fastcifar.packs import choice
from fastcifar.packs.choice import Calibration, Measured, fastest_of
from fastcifar.packs.names import SERIAL
from fastcifar.packs.trial import trial_of
from fastcifar.packs.ways import possible

MEASURED = Measured("grouped", {"serial": 100.0, "grouped": 200.0}, 1 << 20)


@pytest.mark.parametrize(
    ("rates", "way"),
    [
        ({"serial": [100, 100, 100], "grouped": [130, 130, 130]}, "grouped"),
        ({"serial": [100, 100, 100], "grouped": [104, 104, 104]}, SERIAL),  # too little to be sure of
        ({"serial": [100, 100, 100], "grouped": [60, 60, 60], "side-by-side": [150, 150, 150]}, "side-by-side"),
        ({"serial": [100, 50, 100], "grouped": [130, 65, 130]}, "grouped"),  # a slow round is slow for both
        ({"serial": [100, 100, 50], "grouped": [95, 95, 130]}, SERIAL),  # better once, by luck
        ({"serial": [100, 100, 100], "im2col": [20]}, SERIAL),  # given up after a round
        ({"serial": [100]}, SERIAL),
    ],
)
def test_another_way_than_serial_must_pay_in_most_rounds(rates, way):
    assert fastest_of(rates) == way


def test_a_way_that_is_hopeless_is_tried_once(synthetic, monkeypatch):
    speeds, tried = {"serial": 100, "side-by-side": 90, "grouped": 150, "im2col": 30}, []

    def trial(way, *_):
        return nullcontext(SimpleNamespace(rate=lambda: tried.append(way) or speeds[way]))

    monkeypatch.setattr(choice, "trial_of", trial)
    monkeypatch.setattr(choice.machine, "usable_cores", lambda: 2)
    found = choice.measure(spec_of(synthetic), synthetic, CPU, 12)
    assert found.way == "grouped"
    assert found.images_per_s == speeds
    assert found.rate == 150
    assert tried.count("im2col") == 1
    assert tried.count("serial") == tried.count("grouped") == choice.ROUNDS
    assert "grouped, by measurement: serial 100" in found.why()


def test_a_way_is_tried_with_as_many_runs_as_fit_and_without_any_left_out(synthetic, monkeypatch):
    asked = []

    def trial(way, spec, dataset, device, runs):
        asked.append((way, runs))
        if (way == "grouped" and runs > 2) or way == "im2col":
            raise DoesNotFit("too much") if way == "grouped" else torch.OutOfMemoryError("too much")
        return nullcontext(SimpleNamespace(rate=lambda: 100.0))

    monkeypatch.setattr(choice, "trial_of", trial)
    monkeypatch.setattr(choice.machine, "usable_cores", lambda: 1)
    found = choice.measure(spec_of(synthetic), synthetic, CPU, 12)
    assert found.images_per_s == {"serial": 100.0, "grouped": 100.0}
    assert [runs for way, runs in asked if way == "grouped"] == [4, 2]
    assert [runs for way, runs in asked if way == "im2col"] == [4, 2, 1]
    monkeypatch.setattr(choice, "trial_of", lambda *_: (_ for _ in ()).throw(DoesNotFit("too much")))
    with pytest.raises(DoesNotFit):  # not even a run alone: there is no way
        choice.measure(spec_of(synthetic), synthetic, CPU, 12)


def test_memory_is_given_back_when_nothing_refers_to_the_trials(synthetic, monkeypatch):
    trials, alive = [], []

    class Tried:
        def rate(self):
            return 100.0

    def trial(*_):
        tried = Tried()
        trials.append(weakref.ref(tried))
        return nullcontext(tried)

    monkeypatch.setattr(choice, "trial_of", trial)
    monkeypatch.setattr(choice, "give_back", lambda device: alive.append([each() for each in trials]))
    choice.measure(spec_of(synthetic), synthetic, CPU, 12)
    assert alive == [[None] * len(trials)]


def test_a_pack_of_one_is_serial(synthetic, monkeypatch):
    monkeypatch.setattr(choice, "trial_of", lambda way, *_: nullcontext(SimpleNamespace(rate=lambda: 1.0)))
    assert choice.measure(spec_of(synthetic), synthetic, CPU, 1).images_per_s == {SERIAL: 1.0}


@pytest.fixture
def measuring(monkeypatch):
    """Of which specs a measurement was asked."""
    asked = []
    monkeypatch.setattr(choice, "measure", lambda spec, *_: asked.append(spec) or MEASURED)
    return asked


def test_a_measurement_is_kept_and_said_once(synthetic, tmp_path, measuring):
    spec, said = spec_of(synthetic), []
    for _ in range(2):
        assert Calibration(tmp_path / "runs" / "it.json").of(spec, synthetic, CPU, 12, said.append) == MEASURED
    assert len(measuring) == len(said) == 1
    assert "measuring cnn, batch 16, float32 on cpu" in said[0]


def test_what_makes_a_difference_is_measured_by_itself(synthetic, tmp_path, measuring, monkeypatch):
    calibration, spec = Calibration(tmp_path / "it.json"), spec_of(synthetic)
    calibration.of(spec, synthetic, CPU, 12)
    calibration.of(spec.with_seed(7), synthetic, CPU, 12)  # another run of the same shape
    calibration.of(spec_of(synthetic, lr=1e-4, l2=0.01, recipe="basic"), synthetic, CPU, 12)
    assert len(measuring) == 1
    calibration.of(spec_of(synthetic, batch_size=32), synthetic, CPU, 12)
    calibration.of(spec, synthetic, CPU, 24)
    monkeypatch.setattr(choice.machine, "usable_cores", lambda: 99)
    calibration.of(spec, synthetic, CPU, 12)
    monkeypatch.setattr(torch, "__version__", "0.0")
    calibration.of(spec, synthetic, CPU, 12)
    monkeypatch.setattr(choice, "possible", lambda *of: ["serial", "a new way"])
    calibration.of(spec, synthetic, CPU, 12)
    assert len(measuring) == 6
    assert len(json.loads(calibration.path.read_text())) == 6


@pytest.mark.parametrize("contents", ["", "{", "[1]", "null"])
def test_a_damaged_file_is_made_anew(synthetic, tmp_path, measuring, contents):
    path = tmp_path / "it.json"
    path.write_text(contents)
    assert Calibration(path).of(spec_of(synthetic), synthetic, CPU, 12) == MEASURED
    assert len(json.loads(path.read_text())) == 1


@pytest.mark.parametrize("way", ["serial", "side-by-side", "grouped", "im2col"])
def test_a_trial_trains_what_it_says(synthetic, monkeypatch, way):
    monkeypatch.setattr(choice.machine, "usable_cores", lambda: 2)
    spec = spec_of(synthetic)
    assert way in possible(spec, CPU)
    threads = torch.get_num_threads()
    runs = {"serial": 1, "side-by-side": 2}.get(way, 3)
    with trial_of(way, spec, synthetic, CPU, 3) as trial:
        assert trial.train(2) == 2 * spec.batch_size * runs
        assert trial.rate() > 0
    assert torch.get_num_threads() == threads
