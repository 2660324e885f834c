"""Spreads, their intervals and the verdicts that follow from them."""

from math import inf, nan

import numpy as np
import pytest

from fastcifar.diagnose.verdict import (
    ACQUITTED,
    GUILTY,
    NOT_RUN,
    UNDECIDED,
    Judgement,
    Ratio,
    Spread,
    freedom,
    headline,
    judgement,
    jump,
    no_conclusion,
    not_run,
    short,
)


def test_a_jump_is_the_deviation_of_random_changes_whatever_the_trend():
    changes = 0.3 * np.random.default_rng(0).standard_normal(40_000)
    for trend in (0.0, -5.0):
        assert jump((changes + trend).cumsum().tolist()) == pytest.approx(0.3, rel=0.02)
    assert jump([10 - 0.5 * step for step in range(9)]) == 0
    for none in ([1.0, 2.0], [1.0, nan, 2.0], [1.0, inf, 2.0]):
        assert jump(none) != jump(none)


def test_the_interval_of_a_jump_holds_its_true_value_in_19_of_20_cases():
    losses = np.random.default_rng(0).standard_normal((2000, 9)).cumsum(1)
    inside = [low <= 1 <= high for low, high in (Spread(jump(row), freedom(9), 1.0).interval for row in losses)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_the_interval_of_a_ratio_holds_its_true_value_in_19_of_20_cases():
    values = np.random.default_rng(0).standard_normal((2, 2000, 10)).std(2, ddof=1)
    ratios = [Ratio(Spread(3 * a, 9, 1.0), Spread(b, 9, 1.0)).interval for a, b in values.T]
    assert np.mean([low <= 3 <= high for low, high in ratios]) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("spread", "usual", "degrees", "verdict", "why"),
    [
        (0.3, 0.02, 20, GUILTY, "that is above 2 times, and above 1 % of the loss"),
        (0.3, 0.0, 20, GUILTY, "that is above 2 times, and above 1 % of the loss"),
        (0.3, 0.3, 20, ACQUITTED, "that is below 2 times"),
        (0.3, 0.15, 20, UNDECIDED, "the intervals do not decide between more and less than 2 times and 1 % of it"),
        (0.3, 0.02, 1, UNDECIDED, "the intervals do not decide between more and less than 2 times and 1 % of it"),
        (0.012, 0.0001, 20, UNDECIDED, "the intervals do not decide between more and less than 2 times and 1 % of it"),
        (0.003, 0.0001, 20, ACQUITTED, "less than 1 % of the loss hardly shows"),
        (0.0, 0.0, 20, ACQUITTED, "less than 1 % of the loss hardly shows"),
    ],
)
def test_the_verdict_on_a_spread_needs_the_whole_intervals(spread, usual, degrees, verdict, why):
    ratio = Ratio(Spread(spread, degrees, 1.0), Spread(usual, degrees, 1.0))
    assert (ratio.verdict, ratio.why) == (verdict, why)


def test_sentences():
    assert judgement("drift", GUILTY, "it moves", "that is much", {}).sentence == (
        "Drift of the running statistics: guilty, as it moves; that is much."
    )
    assert no_conclusion("weights", ["all weights", "eval mode"]) == Judgement(
        "weights",
        UNDECIDED,
        "All weights trained: not decided here; no conclusion is possible, as validation losses were not finite (all "
        "weights; eval mode).",
    )
    assert not_run("split").sentence == "A split for each seed: not run; --suspects leaves it out."
    found = [Judgement("drift", GUILTY, ""), Judgement("statistics", NOT_RUN, ""), Judgement("split", GUILTY, "")]
    assert headline(found) == "Guilty: drift, split; not run: statistics."


def test_numbers_are_short():
    assert [short(value) for value in (0.02649, 3.04, 31.7, 1234.5, inf)] == ["0.026", "3", "32", "1234", "inf"]
