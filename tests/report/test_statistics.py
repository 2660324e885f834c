"""Intervals: Student's for means, a bootstrap over seeds and images for paired differences."""

import numpy as np
import pytest
from scipy import stats
from support.written_runs import rising, spec_of, write_predictions, write_run

from fastcifar.report.collection import collect
from fastcifar.report.statistics import bootstrap, of_mean, paired
from fastcifar.runs.directory import RunDirectory

DICE = np.random.default_rng(3)


def test_a_mean_has_students_interval():
    values = [0.61, 0.63, 0.66]
    found = of_mean(values)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert found.n == 3
    assert found.points() == f"{100 * found.mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def test_one_value_has_no_interval():
    found = of_mean([0.1])
    assert (found.low, found.high) == (None, None)
    assert not found.above
    assert not found.below
    assert found.points() == "+10.00"


def test_of_one_seed_the_bootstrap_is_that_of_the_images():
    values = DICE.choice([-1.0, 0.0, 1.0], 10_000, p=[0.1, 0.7, 0.2])
    found = bootstrap([values])
    error = values.std() / 100
    assert found.mean == values.mean()
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    assert "one seed, and for it alone" in found.how
    assert found == bootstrap([values]), "the same runs, the same interval"


def test_seeds_that_disagree_make_it_wide():
    alike = [np.full(1000, 0.0) for _ in range(3)]
    apart = [np.full(1000, value) for value in (-1.0, 0.0, 1.0)]
    assert bootstrap(alike).high == 0
    assert bootstrap(apart).high > 0.5
    assert bootstrap(apart).low < -0.5


def test_it_holds_the_truth_about_as_often_as_it_says():
    held = 0
    for _ in range(60):
        seeds = [DICE.choice([-1.0, 0.0, 1.0], 400, p=[0.2, 0.5, 0.3]) for _ in range(3)]
        found = bootstrap(seeds)
        held += found.low <= 0.1 <= found.high
    assert held >= 50


@pytest.fixture
def two(tmp_path):
    def write(right=None, other=None, seeds=(0, 1)):
        for seed in seeds:
            write_run(tmp_path, spec_of(recipe="basic", seed=seed), rising(0.6 + seed / 100), right=right)
            write_run(tmp_path, spec_of(recipe="none", seed=seed), rising(0.5 + seed / 50), right=other)
        found = collect(tmp_path)
        return [found.find(recipe=recipe)[0] for recipe in ("basic", "none")]

    return write


def test_without_predictions_differences_are_of_seeds(two):
    found = paired(*two())
    assert found.mean == pytest.approx(0.095)
    assert found.how == "t, 2 values"


def test_with_predictions_they_are_of_images(two):
    right, other = DICE.random(2000) < 0.7, DICE.random(2000) < 0.5
    a, b = two(right, other)
    found = paired(a, b)
    assert found.mean == pytest.approx(right.mean() - other.mean())
    assert found.how == "bootstrap, 2 seeds, 2,000 images each"
    assert found.above
    assert paired(b, a).below


def test_predictions_of_other_images_are_not_compared(two, tmp_path):
    _, b = two(DICE.random(100) < 0.7, DICE.random(100) < 0.5)
    for run in b.runs.values():
        write_predictions(RunDirectory(run.path), np.ones(100, bool), np.ones(100, bool), first=1)
    a, b = (collect(tmp_path).find(recipe=recipe)[0] for recipe in ("basic", "none"))
    assert paired(a, b).how == "t, 2 values"
    assert paired(a, b, "augmented") is None


def test_no_seed_in_common(tmp_path):
    write_run(tmp_path, spec_of(recipe="basic", seed=0), rising(0.6))
    write_run(tmp_path, spec_of(recipe="none", seed=1), rising(0.6))
    found = collect(tmp_path)
    assert paired(*found.configurations) is None


def test_a_diverged_run_is_no_pair(tmp_path):
    for seed in range(2):
        write_run(tmp_path, spec_of(recipe="basic", seed=seed), rising(0.6))
    write_run(tmp_path, spec_of(recipe="none", seed=0), rising(0.5))
    write_run(tmp_path, spec_of(recipe="none", seed=1), [None])
    basic, none = (collect(tmp_path).find(recipe=recipe)[0] for recipe in ("basic", "none"))
    assert paired(basic, none).n == 1
