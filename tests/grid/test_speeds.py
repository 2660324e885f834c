"""The speed of the machine: measured with real steps, kept, and estimated where that would take too long."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support.specs import PRETRAINED

from fastcifar.grid import speeds
from fastcifar.grid.packing import epoch_seconds, run_seconds
from fastcifar.grid.plan import Asked, plan
from fastcifar.grid.speeds import Kind, Speed, Speeds, measure
from fastcifar.grid.wanted import Wanted, runs_of
from fastcifar.packs.choice import Calibration, Measured
from fastcifar.system.load import Load
from fastcifar.training.steps import Trained

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """The user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fastcifar" / "speeds.json"


@pytest.fixture
def asked():
    """The specs that were measured, all with 1,000 images/s in training and 4,000 in evaluation."""
    return []


@pytest.fixture
def machine_speeds(synthetic, asked):
    def made(busy=0.0, dataset=synthetic):
        return Speeds(
            dataset, CPU, lambda spec, *_: asked.append(spec) or Speed(1000.0, 4000.0), lambda: Load(busy, busy)
        )

    return made


def runs(dataset, *numbers, **options):
    return runs_of(Wanted(numbers, amp="off", **options), dataset, CPU)


@pytest.mark.whole
@pytest.mark.parametrize("chosen", [{"numbers": [1]}, {"numbers": [2], "overrides": {"recipe": ["basic"]}}])
def test_real_steps_and_evaluations_are_timed_and_nothing_is_written(synthetic, monkeypatch, tmp_path, chosen):
    monkeypatch.setattr(speeds, "TRAINING", 0.05)
    monkeypatch.setattr(speeds, "EVALUATION", 0.05)
    monkeypatch.chdir(tmp_path)
    spec = runs_of(Wanted(**chosen, amp="off"), synthetic, CPU).specs[0]
    found = measure(spec, synthetic, CPU)
    assert found.training > 0
    assert found.evaluation > 0
    assert found.source == "measured"
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_trains_an_epoch_in_no_time_is_timed_for_an_epoch(synthetic, monkeypatch):
    """A captured step leaves out the short last batch, so an epoch has fewer batches than its pipeline."""
    asked = []

    def epoch(k, at_most):
        asked.append(at_most)
        sizes = [8] * min(at_most, 9)
        return Trained(torch.zeros(len(sizes)), sizes, 1e-4 * len(sizes), 0.0)

    monkeypatch.setattr(speeds, "steps_of", lambda *_: SimpleNamespace(epoch=epoch))
    monkeypatch.setattr(speeds, "EVALUATION", 0.01)
    found = measure(runs(synthetic, 1).specs[0], synthetic, CPU)
    assert found.training == pytest.approx(80_000)
    assert asked == [1, 1, 10, 90], "and no more when an epoch has no more batches"


def test_a_kind_is_measured_once_and_kept_for_later_commands(synthetic, machine_speeds, asked, cache):
    specs = runs(synthetic, 1, 2).specs
    found = machine_speeds().of(specs)
    assert {(kind.model, kind.batch_size) for kind in found} == {
        ("mlp_s", 128), ("mlp_l", 128), ("cnn", 64), ("cnn", 128)
    }  # fmt: skip
    assert len(asked) == 4
    assert {speed.source for speed in found.values()} == {"measured"}
    later = machine_speeds()
    again = later.of(specs)
    assert len(asked) == 4
    assert {speed.source for speed in again.values()} == {"kept"}
    assert later.sentence(again) == "speeds on this machine, of 4 kinds of runs: 4 measured by an earlier command"
    cache.write_text("{")
    machine_speeds().of(specs)
    assert len(asked) == 8


@pytest.mark.parametrize(
    "value", ['{"training": "fast", "evaluation": 1}', '{"training": -1, "evaluation": 1}', "3", "{}"]
)
def test_a_damaged_entry_is_measured_again(synthetic, machine_speeds, asked, cache, value):
    specs = runs(synthetic, 1).specs
    machine_speeds().of(specs)
    kept = json.loads(cache.read_text())
    cache.write_text(json.dumps(dict.fromkeys(kept, json.loads(value))))
    found = machine_speeds().of(specs)
    assert {speed.source for speed in found.values()} == {"measured"}
    assert len(asked) == 4


def test_other_versions_and_other_machines_have_speeds_of_their_own(synthetic, machine_speeds, asked, monkeypatch):
    specs = runs(synthetic, 1).specs
    machine_speeds().of(specs)
    monkeypatch.setattr(speeds.machine, "version", lambda name: "0.0")
    machine_speeds().of(specs)
    monkeypatch.setattr(speeds, "device_name", lambda device: "another processor")
    machine_speeds().of(specs)
    assert len(asked) == 3 * 2


def test_on_a_busy_machine_nothing_is_kept_and_it_is_said(synthetic, machine_speeds, asked):
    specs = runs(synthetic, 1).specs
    for _ in range(2):
        busy = machine_speeds(busy=1.5)
        found = busy.of(specs)
    assert len(asked) == 4
    assert "other programs use 1.5 of " in busy.sentence(found)
    assert "try again" in busy.sentence(found)


def test_when_patience_ends_a_kind_has_the_speed_of_the_same_network(synthetic, machine_speeds, asked, monkeypatch):
    monkeypatch.setattr(speeds, "PATIENCE", -1.0)
    many = machine_speeds()
    found = many.of(runs(synthetic, 1, 2, overrides={"batch_size": [64, 128, 256]}).specs)
    sources = {(kind.model, kind.batch_size): speed.source for kind, speed in found.items()}
    assert list(sources.values()).count("measured") == len(asked) == 3, "one of each network is measured in any case"
    assert list(sources.values()).count("estimated") == 6
    assert "6 estimated from another batch size or precision of the same network" in many.sentence(found)


def test_a_quick_plan_has_the_measured_hours_of_what_is_not_finished(synthetic, machine_speeds, tmp_path):
    chosen = runs(synthetic, 1, overrides={"epochs": [100]})
    out = tmp_path / "runs"
    finished = out / "exp1" / chosen.specs[0].run_id
    finished.mkdir(parents=True)
    (finished / "summary.json").write_text('{"status": "finished", "epochs": 1}')
    made = plan(Asked(synthetic, out, CPU), chosen, quick=machine_speeds())
    training, validation = (len(synthetic.ids(split)) for split in ("training", "validation"))
    epoch = training / 1000 + validation / 4000
    assert made.seconds() == pytest.approx((5 * 30 * epoch, 5 * 100 * epoch))
    assert "at most, for 100 epochs each" in made.sentence()
    assert made.source.startswith("speeds on this machine, of 2 kinds of runs: 2 measured now, in ")
    assert {entry["source"] for entry in made.plain()["speeds"]} == {"measured"}
    assert not (out / "calibration.json").exists(), "the ways are compared when training begins"


def test_a_quick_plan_uses_the_ways_that_were_compared_before(synthetic, machine_speeds, tmp_path, monkeypatch):
    measured = Measured("grouped", {"serial": 1000.0, "grouped": 2000.0}, 1 << 20)
    monkeypatch.setattr("fastcifar.packs.choice.measure", lambda *_: measured)
    chosen, asked_for = runs(synthetic, 2, only={"batch_size": [128]}), Asked(synthetic, tmp_path, CPU)
    Calibration(tmp_path / "calibration.json").of(chosen.specs[0], synthetic, CPU, asked_for.most)
    made = plan(asked_for, chosen, quick=machine_speeds())
    (kept,) = made.measured.values()
    assert (kept.way, kept.rate, kept.evaluation) == ("grouped", 2000.0, 0.5)


def test_cached_features_count_as_one_epoch():
    dataset = SimpleNamespace(ids=lambda split: range({"training": 4000, "validation": 1000}[split]))
    head = replace(PRETRAINED, tune="head", epochs=50)
    assert run_seconds(head, epoch_seconds(Measured("serial", {"serial": 100.0}, 0, 0.5), dataset)) == (45.0, 45.0)


def test_a_kind_is_what_the_speed_depends_on(synthetic):
    one, other = runs(synthetic, 2).specs[:2]
    assert Kind.of(one) == Kind.of(other.with_seed(9))
