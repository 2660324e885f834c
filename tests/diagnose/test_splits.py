"""Heads of many seeds, on one split and on a split for each."""

from math import nan

import pytest
from support.diagnosis import EPOCHS, SEEDS, experiment

from fastcifar.diagnose import splits
from fastcifar.diagnose.sample import pool_of
from fastcifar.diagnose.splits import ONE, OWN, SeedLine, band, check_still, judge
from fastcifar.diagnose.verdict import ACQUITTED, GUILTY, UNDECIDED
from fastcifar.errors import UsageError
from fastcifar.runs.plan import headline_runs
from fastcifar.training.heads import train_heads


def test_every_seed_has_a_head_on_both_splits(made):
    places = [(line.split, line.seed, line.epoch) for line in made.seeds]
    assert sorted(places) == sorted(
        (split, seed, epoch) for split in (ONE, OWN) for seed in range(1, 1 + SEEDS) for epoch in range(1, EPOCHS + 1)
    )
    assert len({line.loss for line in made.seeds}) == len(made.seeds)


def test_the_heads_are_those_of_head_runs(made, small, digits, tmp_path):
    """On one split, the losses of the first seed are those of `fastcifar train` with tune=head."""
    pool = pool_of(digits, 40, experiment(small).spec.seed)
    settings = {"recipe": "none", "batch_size": 8, "lr": 1e-2, "epochs": EPOCHS, "tune": "head"}
    (spec,) = headline_runs(4, pool, seeds=[1], model=experiment(small).spec.model, **settings)
    lines = []
    train_heads([spec], pool, tmp_path, experiment(small).device, {spec: lines.append})
    mine = [line.loss for line in made.seeds if (line.split, line.seed) == (ONE, 1)]
    assert mine == pytest.approx([line["val_loss"] for line in lines], rel=1e-5)


def test_the_band_by_hand():
    lines = [
        SeedLine(OWN, seed, epoch, loss, 0.5) for seed, epoch, loss in [(0, 1, 1), (1, 1, 3), (0, 2, 2), (1, 2, 2)]
    ]
    assert band(lines, OWN, "loss") == [(2, pytest.approx(2**0.5)), (2, 0)]
    assert band(lines, ONE, "loss") == []


def judged(own, one, seeds=20, **more):
    """Losses that alternate by plus and minus a deviation around 1."""
    return judge([
        SeedLine(split, seed, 1, 1 + (-1) ** seed * deviation, 0.5 + (-1) ** seed * deviation / 10)
        for split, deviation in ((OWN, own), (ONE, one)) for seed in range(seeds)
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "verdict", "why"),
    [
        ((0.1, 0.01), GUILTY, "that is above 2 times, and above 1 % of the loss."),
        ((0.1, 0.1), ACQUITTED, "that is below 2 times."),
        ((0.004, 0.0001), ACQUITTED, "less than 1 % of the loss hardly shows."),
        ((0.1, 0.04), UNDECIDED, "decide between more and less than 2 times and 1 % of it, and more --heads would."),
        ((0.1, 0.01, 3), UNDECIDED, "more --heads would."),
        ((nan, 0.01), UNDECIDED, "validation losses were not finite (a split for each seed)."),
    ],
)  # fmt: skip
def test_every_verdict(numbers, verdict, why):
    found = judged(*numbers)
    assert found.verdict == verdict
    assert found.sentence.endswith(why)


def test_the_sentence_states_how_sure_the_deviations_are():
    assert judged(0.1, 0.01).sentence == (
        "A split for each seed: guilty, as the validation loss of 20 seeds has the standard deviation 0.1 [0.078, "
        "0.15] with a split for each seed and 0.01 [0.0078, 0.015] with one split, 10 [6.3, 16] times as much, and the "
        "accuracy 1.03 and 0.10 points; that is above 2 times, and above 1 % of the loss."
    )


def test_a_random_recipe_has_no_features_to_keep(small):
    spec = experiment(small, recipe="basic").spec
    check_still(spec, ["drift"])
    with pytest.raises(UsageError, match="recipe 'basic' draws random numbers, and the suspect split needs features"):
        check_still(spec, ["split"])


def test_seeds_share_one_backbone(small, digits, monkeypatch):
    seen = []
    monkeypatch.setattr(splits, "Heads", lambda learners, *_: seen.extend(learners) or pytest.skip("seen"))
    with pytest.raises(pytest.skip.Exception):
        splits.train_seeds(experiment(small), pool_of(digits, 40, 1), 3)
    assert len({id(learner.model.backbone) for learner in seen}) == 1
    assert len({float(learner.model.head.weight.detach().sum()) for learner in seen}) == 3
