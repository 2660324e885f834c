"""Intervals: Student's for means and for paired differences, wider where they hold for other images, too."""

import numpy as np
import pytest
from scipy import stats
from support.written_runs import rising, spec_of, write_predictions, write_run

from fastcifar.report.collection import collect
from fastcifar.report.statistics import of_images, of_mean, paired, seeds_for
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


def test_the_choice_of_images_widens_an_interval():
    values = DICE.choice([-1.0, 0.0, 1.0], 10_000, p=[0.1, 0.7, 0.2])
    found = of_images([values, values, values])  # the seeds do not differ at all
    error = values.std() / 100
    assert found.mean == pytest.approx(values.mean())
    assert found.high - found.mean == pytest.approx(1.96 * error, rel=0.01)
    assert found == of_images([values, values, values]), "the same runs, the same interval"
    other = of_images([values, values[:5000], values[5000:]])  # each seed has its own images
    assert other.high - other.mean > 1.4 * error


def test_seeds_that_disagree_make_it_wide():
    alike = [np.full(1000, 0.0) for _ in range(3)]
    apart = [np.full(1000, value) for value in (-1.0, 0.0, 1.0)]
    assert of_images(alike).high == 0
    assert of_images(apart).high > 1  # t(2) is 4.3: three seeds say little
    assert of_images(apart, 0.99).high > of_images(apart).high


@pytest.mark.parametrize("between", [0.0, 0.05])
def test_it_holds_the_truth_as_often_as_it_says(between):
    """between: the spread of the true differences of seeds, beside that of 400 images. A bootstrap held 3 of 4."""
    held, tries = 0, 400
    for _ in range(tries):
        shifts = np.clip(DICE.normal(0, between, 3), -0.2, 0.2)
        seeds = [DICE.choice([-1.0, 0.0, 1.0], 400, p=[0.2, 0.5 - shift, 0.3 + shift]) for shift in shifts]
        found = of_images(seeds)
        held += found.low <= 0.1 <= found.high
    assert held / tries >= 0.94


def test_the_seeds_that_would_do():
    assert seeds_for(0.01, 0.02) == 4
    assert of_mean([0.5 + 0.01 * value for value in (-1.2, 0.2, 1.0, 0.0)]).high - 0.5 < 0.02
    assert seeds_for(0.0, 0.001) == 2
    assert seeds_for(0.5, 0.0001) is None


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
    assert found.how == "t, 2 seeds"


def test_with_predictions_they_are_of_images(two):
    right, other = DICE.random(2000) < 0.7, DICE.random(2000) < 0.5
    a, b = two(right, other)
    found = paired(a, b)
    assert found.mean == pytest.approx(right.mean() - other.mean())
    assert found.how == "t, 2 seeds and the choice of images"
    assert found.above
    assert paired(b, a).below


def test_predictions_of_other_images_are_not_compared(two, tmp_path):
    _, b = two(DICE.random(100) < 0.7, DICE.random(100) < 0.5)
    for run in b.runs.values():
        write_predictions(RunDirectory(run.path), np.ones(100, bool), np.ones(100, bool), first=1)
    a, b = (collect(tmp_path).find(recipe=recipe)[0] for recipe in ("basic", "none"))
    assert paired(a, b).how == "t, 2 seeds"
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
