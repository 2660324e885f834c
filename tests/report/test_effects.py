"""Effects and interactions are recovered from runs whose accuracy is made of them."""

from itertools import product

import pytest
from support.written_runs import rising, spec_of, write_run

from fastcifar.experiments import CNN_GRID
from fastcifar.report.collection import collect
from fastcifar.report.effects import interactions, main_effects


def made(out, accuracy, values=CNN_GRID, seeds=(0, 1)):
    for point in product(*values.values()):
        chosen = dict(zip(values, point, strict=True))
        for seed in seeds:
            write_run(out, spec_of(seed=seed, **chosen), rising(accuracy(**chosen) + seed / 1000, 2))
    return collect(out)


def test_what_each_factor_does_and_what_two_do_together(tmp_path):
    def accuracy(batch_size, lr, l2, dropout, recipe):
        both = 0.05 * (dropout > 0) * (recipe == "erasing")
        return 0.3 + 0.02 * (batch_size == 128) - 0.1 * (l2 > 0) + 0.04 * (dropout > 0) + both

    collection = made(tmp_path, accuracy)
    effects = {each.what: each for each in main_effects(collection, 2, "sound")}
    assert effects["batch 64 → batch 128"].interval.mean == pytest.approx(0.02)
    assert effects["L2 0 → L2 0.01"].interval.mean == pytest.approx(-0.1)
    assert effects["dropout 0 → dropout 0.5"].interval.mean == pytest.approx(0.04 + 0.05 / 3)
    assert effects["none → erasing"].interval.mean == pytest.approx(0.025)
    assert effects["none → basic"].interval.mean == pytest.approx(0)
    assert effects["lr 0.01 → lr 0.0001"].interval.n == 24  # pairs
    assert len(effects["batch 64 → batch 128"].runs) == 144
    assert effects["L2 0 → L2 0.01"].interval.below
    found = {each.what: each.interval for each in interactions(collection, 2, "sound")}
    assert len(found) == 10
    assert found["dropout 0 → dropout 0.5, by none → erasing"].mean == pytest.approx(0.05)
    assert found["L2 0 → L2 0.01, by none → erasing"].mean == pytest.approx(0)


def test_an_unfinished_grid_has_the_effects_that_its_pairs_show(tmp_path):
    write_run(tmp_path, spec_of(recipe="none"), rising(0.5))
    write_run(tmp_path, spec_of(recipe="basic"), rising(0.6))
    write_run(tmp_path, spec_of(recipe="erasing", batch_size=64), rising(0.9))  # matches neither
    collection = collect(tmp_path)
    (only,) = main_effects(collection, 2, "sound")
    assert only.what == "none → basic"
    assert only.interval.mean == pytest.approx(0.1)
    assert only.interval.low is None
    assert interactions(collection, 2, "sound") == []


def test_seeds_are_matched_and_diverged_runs_are_no_pairs(tmp_path):
    write_run(tmp_path, spec_of(recipe="none", seed=0), rising(0.5))
    write_run(tmp_path, spec_of(recipe="none", seed=1), [None])
    write_run(tmp_path, spec_of(recipe="basic", seed=0), rising(0.6))
    write_run(tmp_path, spec_of(recipe="basic", seed=1), rising(0.9))
    write_run(tmp_path, spec_of(recipe="erasing", seed=2), rising(0.9))
    (only,) = main_effects(collect(tmp_path), 2, "sound")
    assert only.interval.mean == pytest.approx(0.1)


def test_networks_are_compared_whatever_their_recipes(tmp_path):
    write_run(tmp_path, spec_of(4, model="mobilenet_v3_small"), rising(0.8))
    write_run(tmp_path, spec_of(4, model="efficientnet_v2_s"), rising(0.7))
    (only,) = main_effects(collect(tmp_path), 4, "sound")
    assert only.what == "mobilenet_v3_small → efficientnet_v2_s"
