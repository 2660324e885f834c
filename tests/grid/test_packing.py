"""What a grid trains: every configuration once, in packs of one shape, planned in no time."""

import time
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from fastcifar.errors import UsageError
from fastcifar.experiments import experiment
from fastcifar.grid import wanted
from fastcifar.grid.asked import Asked
from fastcifar.grid.packing import packs_of, seconds_of, unfinished
from fastcifar.grid.plan import plan
from fastcifar.grid.wanted import Wanted, runs_of
from fastcifar.packs.choice import Measured
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec

CPU = torch.device("cpu")
DATASET = SimpleNamespace(sha256="ab" * 32, ids=lambda split: range({"training": 4000, "validation": 1000}[split]))


def runs(*numbers, **options):
    return runs_of(Wanted(numbers, amp="off", **options), DATASET, CPU).specs


def test_a_grid_is_every_seed_of_every_configuration_once():
    specs = runs(1, 2, 3)
    assert len(specs) == len(set(specs)) == 3 * (2 + 72 + 6)
    assert Counter(spec.experiment for spec in specs) == {1: 6, 2: 216, 3: 18}
    assert {spec.seed for spec in specs} == {0, 1, 2}


@pytest.mark.parametrize("protocol", ["sound", "report", "as-run"])
def test_runs_are_those_that_train_plans(protocol):
    planned = {spec.run_id for spec in runs(2, protocols=[protocol], seeds=[5])}
    whole = experiment(2, protocol).configurations()
    alone = [
        RunSpec(experiment=2, protocol=protocol, seed=5, dataset=DATASET.sha256, precision="float32", **fields)
        for fields in whole
    ]
    assert planned == {spec.run_id for spec in alone}


def test_only_chooses_and_set_replaces():
    chosen = runs(2, only={"batch_size": [128], "recipe": ["none", "basic"]}, overrides={"epochs": [3], "lr": [0.5]})
    assert {(spec.batch_size, spec.lr, spec.epochs) for spec in chosen} == {(128, 0.5, 3)}
    assert len(chosen) == 3 * 2 * 2 * 2  # seeds, recipes, L2, dropout: what differed in lr alone is one now
    assert len(runs(3, only={"dropout": [0.0]})) == 18  # a field that all share


def test_set_combines_its_values():
    chosen = runs(2, overrides={"lr": [1e-3, 3e-3], "batch_size": [64, 256], "optimizer": ["sgd"]}, seeds=[0])
    assert Counter((spec.lr, spec.batch_size) for spec in chosen) == dict.fromkeys(
        [(1e-3, 64), (1e-3, 256), (3e-3, 64), (3e-3, 256)], 2 * 2 * 3  # L2, dropout, recipes
    )  # fmt: skip
    assert {spec.optimizer for spec in chosen} == {"sgd"}
    packs = packs_of([*chosen, *runs(2)], lambda shape: 1000)
    assert all(len({spec.optimizer for spec in pack.specs}) == 1 for pack in packs)


def test_runs_that_cannot_be_stacked_are_planned_serially_and_it_is_said(tmp_path, synthetic):
    wanted = Wanted([2], overrides={"optimizer": ["muon"], "lr": [0.01], "batch_size": [40], "l2": [0.0],
                                    "dropout": [0.0], "recipe": ["none"]}, seeds=[0, 1], amp="off")  # fmt: skip
    said = []
    planned = plan(Asked(synthetic, tmp_path, CPU), runs_of(wanted, synthetic, CPU), said.append)
    assert {measured.way for measured in planned.measured.values()} == {"serial"}
    assert "exp 2 cnn b40 none x 2: one run after another, since muon's steps in bfloat16 enlarge" in said[0]


def test_nothing_left_is_said():
    with pytest.raises(UsageError, match=r"no configuration fits --only lr=0\.3"):
        runs(2, only={"lr": [0.3]})
    with pytest.raises(UsageError, match="did you mean recipe"):
        runs(2, only={"recipes": ["none"]})


def test_networks_without_weights_are_left_out_with_the_reason(monkeypatch):
    def none_here(number, model, asked):
        if model == "resnet18":
            raise UsageError("no weights of resnet18 here; give --weights FILE")
        return SimpleNamespace(identity="none", note="weights x.pth: read as entry 'state_dict'")

    monkeypatch.setattr(wanted, "weights_for", none_here)
    found = runs_of(Wanted([4], amp="off"), DATASET, CPU)
    assert set(found.left_out) == {"resnet18"}
    assert "give --weights FILE" in found.left_out["resnet18"]
    assert found.notes == ("weights x.pth: read as entry 'state_dict'",)
    assert {spec.model for spec in found.specs} == {"mobilenet_v3_small", "efficientnet_v2_s"}


def test_packs_are_of_one_shape_and_hold_every_run_once():
    specs = runs(1, 2, 3, protocols=["sound", "as-run"])
    packs = packs_of(specs, lambda shape: 7)
    assert Counter(spec for pack in packs for spec in pack.specs) == Counter(specs)
    for pack in packs:
        assert 1 <= len(pack.specs) <= 7
        for name in ("experiment", "model", "protocol", "batch_size", "precision"):
            assert len({getattr(spec, name) for spec in pack.specs}) == 1


def test_runs_with_the_same_images_are_neighbours():
    packs = packs_of(runs(2), lambda shape: 12)  # lr x L2 x dropout
    assert all(len({(spec.recipe, spec.seed) for spec in pack.specs}) == 1 for pack in packs)


def test_what_has_a_summary_is_not_planned_again(tmp_path):
    specs = runs(1)
    assert unfinished(specs, tmp_path) == list(specs)
    directory = RunDirectory.of(specs[2], tmp_path)
    directory.path.mkdir(parents=True)
    assert unfinished(specs, tmp_path) == list(specs)
    directory.finish({"status": "finished", "epochs": 1})
    assert unfinished(specs, tmp_path) == [*specs[:2], *specs[3:]]


def test_ten_thousand_runs_are_planned_in_a_tenth_of_a_second(tmp_path):
    seeds = range(139)  # of 72 configurations

    def seconds():
        started = time.perf_counter()
        specs = runs(2, seeds=seeds)
        packs = packs_of(unfinished(specs, tmp_path), lambda shape: 24)
        ids = [spec.run_id for spec in specs]
        assert len(set(ids)) == len(ids) == 10_008
        assert len(packs) == 2 * -(-5004 // 24)
        return time.perf_counter() - started

    assert min(seconds() for _ in range(5)) < 0.1 * slowness()


def slowness():
    """How much longer this machine takes now than when the limit was set: other tests may run beside this one."""
    started = time.perf_counter()
    sum(n * n for n in range(1_000_000))
    return max(1.0, (time.perf_counter() - started) / 0.06)


def test_time_is_told_from_the_earliest_end_to_the_latest():
    (pack,) = packs_of(runs(1, only={"model": ["mlp_s"]}), lambda shape: 12)
    measured = Measured("serial", {"serial": 1000.0}, 0)
    earliest, latest = seconds_of(pack, measured, DATASET, devices=2)
    epoch = (4000 + 1000 / 3) / 1000
    assert earliest == pytest.approx(3 * 30 * epoch / 2)
    assert latest == pytest.approx(3 * 100 * epoch / 2)
