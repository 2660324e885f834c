"""Verdicts of values, directions and shapes, and how often they are wrong where the truth is known."""

import numpy as np
import pytest

from fastcifar.report.statistics import of_mean
from fastcifar.report.verdict import (
    CONFIRMED,
    CONTRADICTED,
    NOT_RUN,
    UNDECIDED,
    Verdict,
    holm,
    joined,
    of_direction,
    of_shape,
    of_value,
)

MARGIN = 0.02


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.70, 0.702, 0.698], CONFIRMED),
        ([0.74, 0.742, 0.738], CONTRADICTED),
        ([0.66, 0.662, 0.658], CONTRADICTED),
        ([0.719, 0.721, 0.720], UNDECIDED),  # it crosses the bound
        ([0.60, 0.70, 0.80], UNDECIDED),
        ([0.70], UNDECIDED),
    ],
)
def test_a_value_is_confirmed_by_a_whole_interval_alone(values, verdict):
    found, decides, p = of_value(of_mean(values), 0.70, MARGIN)
    assert found == verdict
    assert (decides == "") == (p is not None) == (verdict != UNDECIDED)
    assert p is None or p < 0.025


def test_what_would_decide_is_said():
    _, decides, _ = of_value(of_mean([0.705, 0.72, 0.69]), 0.70, MARGIN)
    assert decides == "about 7 seeds would decide it, at a standard deviation of 1.50 points"
    _, decides, _ = of_value(of_mean([0.71, 0.73, 0.72]), 0.70, MARGIN)  # on the bound
    assert decides == "more seeds alone will hardly decide it, as it is near the bound"
    _, decides, _ = of_direction(of_mean([0.01, 0.03, -0.01]))
    assert decides.startswith("about ")


def test_more_seeds_are_not_said_to_decide_what_too_few_images_leave_open():
    values = [0.705, 0.72, 0.69]
    _, decides, _ = of_value(of_mean(values, images_error=0.005), 0.70, MARGIN)
    assert decides.startswith("about 10 seeds")  # not 7: the images take a part of the margin
    for judge in (lambda interval: of_value(interval, 0.70, MARGIN), lambda interval: of_direction(interval)):
        _, decides, _ = judge(of_mean([value - 0.7 for value in values], images_error=0.5))
        assert decides == "more seeds alone will not decide it, but more images may"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [([0.01, 0.012, 0.011], CONFIRMED), ([-0.01, -0.012, -0.011], CONTRADICTED), ([0.01, -0.01, 0.02], UNDECIDED),
     ([0.1], UNDECIDED)],
)  # fmt: skip
def test_a_direction(values, verdict):
    assert of_direction(of_mean(values))[0] == verdict


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [([True] * 3, CONFIRMED), ([False] * 3, CONTRADICTED), ([True, True, False], UNDECIDED), ([True] * 2, UNDECIDED),
     ([], UNDECIDED), ([True] * 10, CONFIRMED)],
)  # fmt: skip
def test_a_shape_needs_three_seeds_that_agree(shown, verdict):
    assert of_shape(shown)[0] == verdict


def test_a_claim_of_parts():
    def of(*kinds):
        return joined([Verdict(kind, kind, (kind,), 0.01) for kind in kinds]).verdict

    assert of(CONFIRMED, CONFIRMED) == CONFIRMED
    assert of(CONFIRMED, UNDECIDED) == UNDECIDED
    assert of(CONFIRMED, NOT_RUN) == of(UNDECIDED, NOT_RUN) == NOT_RUN
    assert of(CONTRADICTED, NOT_RUN) == of(CONFIRMED, CONTRADICTED) == CONTRADICTED


def test_holm_keeps_the_rate_of_the_whole_page():
    assert holm([0.01, 0.04, 0.03]) == [True, False, False]
    assert holm([0.001, 0.02, 0.03]) == [True, True, True]
    assert holm([]) == []
    pages = np.random.default_rng(5).random((2000, 12))  # twelve claims, all of them false
    assert sum(any(holm(page.tolist())) for page in pages) / 2000 < 0.06
    assert (pages < 0.05).any(1).mean() > 0.4  # without it, almost half of the pages would give an alarm


@pytest.mark.parametrize("spread", [0.003, 0.01, 0.05])
@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_a_false_claim_is_hardly_ever_confirmed_and_a_true_one_hardly_ever_contradicted(seeds, spread):
    """`python bench/verdicts.py` measures the rates; its table is in docs/report.md."""
    dice, tries = np.random.default_rng(7), 600
    wrong = dict.fromkeys(("at the margin", "outside", "inside", "no difference"), 0)
    for _ in range(tries):
        drawn = dice.normal(0, spread, seeds)
        wrong["at the margin"] += of_value(of_mean(0.70 + MARGIN + drawn), 0.70, MARGIN)[0] == CONFIRMED
        wrong["outside"] += of_value(of_mean(0.70 + 0.03 + drawn), 0.70, MARGIN)[0] == CONFIRMED
        wrong["inside"] += of_value(of_mean(0.70 + 0.01 + drawn), 0.70, MARGIN)[0] == CONTRADICTED
        wrong["no difference"] += of_direction(of_mean(drawn))[0] == CONFIRMED
    assert max(wrong.values()) / tries <= 0.05, wrong
