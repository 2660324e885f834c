"""Every rule confirms, contradicts and abstains where it should; nothing is judged by eye."""

import numpy as np
import pytest
from support.written_runs import rising, spec_of, write_run

from fastcifar.report import claims
from fastcifar.report.claims import CLAIMS
from fastcifar.report.collection import collect
from fastcifar.report.verdict import CONFIRMED, CONTRADICTED, NOT_RUN, UNDECIDED, VERDICTS

BY_ID = {claim.id: claim for claim in CLAIMS}


def judged(name, out, protocol="sound"):
    return BY_ID[name].judge(collect(out), protocol)


def seeds_of(out, best, number=2, **chosen):
    for seed, value in enumerate(best):
        write_run(out, spec_of(number, seed=seed, **chosen), rising(value, start=0.1))


def test_names_are_unique_and_every_claim_has_a_rule():
    assert len(BY_ID) == len(CLAIMS)
    for claim in CLAIMS:
        assert claim.said.endswith(".")
        assert claim.rule


def test_nothing_run_is_nothing_judged(tmp_path):
    write_run(tmp_path, spec_of(lr=0.5), rising(0.1))  # of no claim
    found = claims.verdicts(collect(tmp_path), ["sound"])
    assert len(found) == len(CLAIMS)
    for _, by_protocol in found:
        assert list(by_protocol) == ["sound"]
        assert by_protocol["sound"].verdict == NOT_RUN
        assert by_protocol["sound"].measured


@pytest.mark.parametrize(
    ("best", "verdict"),
    [
        ([0.40, 0.404, 0.396], CONFIRMED),
        ([0.40, 0.41, 0.39], UNDECIDED),  # 40 ± 2.48: the interval leaves the two points
        ([0.40], UNDECIDED),
        ([0.45], UNDECIDED),
        ([0.45, 0.451, 0.449], CONTRADICTED),
        ([0.12, 0.25], UNDECIDED),  # an interval from -64 to 101 % was "confirmed" once
    ],
)
def test_about(tmp_path, best, verdict):
    seeds_of(tmp_path, best, 1, model="mlp_s")
    found = judged("mlp-s", tmp_path)
    assert found.verdict == verdict
    assert f"{100 * np.mean(best):.2f} %" in found.measured
    assert len(found.runs) == len(best)


@pytest.mark.parametrize(
    ("basic", "erasing", "verdict"),
    [
        ([0.70, 0.71, 0.72], [0.64, 0.65, 0.66], CONFIRMED),
        ([0.64, 0.65, 0.66], [0.70, 0.71, 0.72], CONTRADICTED),
        ([0.70, 0.65, 0.72], [0.65, 0.71, 0.66], UNDECIDED),
        ([0.70], [0.60], UNDECIDED),  # one seed has no spread
        ([0.70, 0.71], [], NOT_RUN),
    ],
)
def test_better(tmp_path, basic, erasing, verdict):
    seeds_of(tmp_path, basic, recipe="basic")
    seeds_of(tmp_path, erasing, recipe="erasing")
    found = judged("cnn-erasing", tmp_path)
    assert found.verdict == verdict
    if verdict != NOT_RUN:
        assert len(found.runs) == len(basic) + len(erasing)
        assert ("would decide it" in found.measured) == (verdict == UNDECIDED and len(basic) == 3)


def test_one_seed_is_too_few_whatever_its_predictions_say(tmp_path):
    dice = np.random.default_rng(0)
    for seeds, verdict in ((1, UNDECIDED), (3, CONFIRMED)):
        for recipe, rate in (("basic", 0.7), ("erasing", 0.6)):
            for seed in range(seeds):
                right = dice.random(4000) < rate
                write_run(tmp_path / str(seeds), spec_of(recipe=recipe, seed=seed), rising(rate), right=right)
        assert judged("cnn-erasing", tmp_path / str(seeds)).verdict == verdict


def test_a_protocol_is_judged_on_the_images_that_it_validates_on(tmp_path):
    dice = np.random.default_rng(0)
    for protocol in ("sound", "as-run"):
        for recipe, clean, augmented in (("basic", 0.6, 0.6), ("erasing", 0.7, 0.5)):
            for seed in range(4):
                spec = spec_of(protocol=protocol, recipe=recipe, seed=seed)
                right, other = dice.random(4000) < clean, dice.random(4000) < augmented
                write_run(tmp_path, spec, rising(0.6), right=right, augmented=other)
    assert judged("cnn-erasing", tmp_path).verdict == CONTRADICTED  # it helps on clean images
    assert judged("cnn-erasing", tmp_path, "as-run").verdict == CONFIRMED  # and harms on erased ones


def test_all_parts_must_hold(tmp_path):
    seeds_of(tmp_path, [0.60, 0.61, 0.62], recipe="none", dropout=0.0)
    seeds_of(tmp_path, [0.725, 0.73, 0.735], recipe="none", dropout=0.5)
    found = judged("cnn-dropout", tmp_path)  # it helps, but to more than about 67 %
    assert found.verdict == CONTRADICTED
    assert "points" in found.measured
    assert "73.00 %" in found.measured
    seeds_of(tmp_path / "only", [0.66, 0.67, 0.68], recipe="none", dropout=0.5)
    assert judged("cnn-dropout", tmp_path / "only").verdict == NOT_RUN


def test_no_progress(tmp_path):
    seeds_of(tmp_path / "none", [0.10, 0.11, 0.10], 1, model="mlp_l")
    seeds_of(tmp_path / "two", [0.10, 0.11], 1, model="mlp_l")
    seeds_of(tmp_path / "some", [0.10, 0.35, 0.10], 1, model="mlp_l")
    seeds_of(tmp_path / "all", [0.30, 0.35, 0.31], 1, model="mlp_l")
    assert judged("mlp-l", tmp_path / "none").verdict == CONFIRMED
    assert judged("mlp-l", tmp_path / "two").verdict == UNDECIDED
    assert "2 seeds; 3 that agree are needed" in judged("mlp-l", tmp_path / "two").measured
    assert judged("mlp-l", tmp_path / "some").verdict == UNDECIDED
    assert "35.00 %; 2 of 3 seeds show it" in judged("mlp-l", tmp_path / "some").measured
    assert judged("mlp-l", tmp_path / "all").verdict == CONTRADICTED


def three(out, spec, accuracies, **curves):
    for seed in range(3):
        write_run(out, spec.with_seed(seed), accuracies, **curves)


def test_overfitting(tmp_path):
    u_shaped = ([0.4, 0.5, 0.5], [2.0, 1.0, 0.2], [1.8, 1.2, 2.4])
    level = ([0.4, 0.5, 0.6], [2.0, 1.5, 1.3], [1.9, 1.6, 1.5])
    for name, curve in (("u", u_shaped), ("level", level)):
        for lr in (1e-3, 1e-4):
            three(tmp_path / name, spec_of(lr=lr, dropout=0.0, recipe="none"), curve[0], train=curve[1], val=curve[2])
    assert judged("cnn-overfit", tmp_path / "u").verdict == CONFIRMED
    assert "2.00 times" in judged("cnn-overfit", tmp_path / "u").measured
    assert judged("cnn-slow", tmp_path / "u").verdict == CONTRADICTED
    assert judged("cnn-overfit", tmp_path / "level").verdict == CONTRADICTED
    assert judged("cnn-slow", tmp_path / "level").verdict == CONFIRMED
    mixed = spec_of(lr=1e-3, dropout=0.0, recipe="none", seed=3)
    write_run(tmp_path / "u", mixed, level[0], train=level[1], val=level[2])
    assert judged("cnn-overfit", tmp_path / "u").verdict == UNDECIDED
    assert "1.00 to 2.00 times" in judged("cnn-overfit", tmp_path / "u").measured


def test_losses_that_stay_together(tmp_path):
    spec = spec_of(1, model="mlp_s")
    three(tmp_path / "near", spec, [0.3, 0.4], train=[2.0, 1.6], val=[2.0, 1.7])
    three(tmp_path / "far", spec, [0.3, 0.4], train=[2.0, 1.0], val=[2.0, 1.7])
    assert judged("mlp-s-losses", tmp_path / "near").verdict == CONFIRMED
    assert judged("mlp-s-losses", tmp_path / "far").verdict == CONTRADICTED


def test_a_restless_loss(tmp_path):
    smooth, jumpy = [2.0, 1.9, 1.8, 1.7], [2.0, 3.0, 1.0, 2.5]
    for model in ("mobilenet_v3_small", "efficientnet_v2_s"):
        three(tmp_path, spec_of(4, model=model), rising(0.8, 4), val=smooth)
    three(tmp_path, spec_of(4, model="resnet18"), rising(0.8, 4), val=jumpy)
    assert judged("resnet-restless", tmp_path).verdict == CONFIRMED
    three(tmp_path / "calm", spec_of(4, model="resnet18"), rising(0.8, 4), val=smooth)
    three(tmp_path / "calm", spec_of(4, model="mobilenet_v3_small"), rising(0.8, 4), val=smooth)
    assert judged("resnet-restless", tmp_path / "calm").verdict == CONTRADICTED


def test_alike(tmp_path):
    places = {
        "alike": ([0.512, 0.514, 0.513], CONFIRMED),
        "apart": ([0.600, 0.602, 0.601], CONTRADICTED),
        "wide": ([0.45, 0.51, 0.57], UNDECIDED),
    }
    for place, (last, verdict) in places.items():
        seeds_of(tmp_path / place, [0.51, 0.512, 0.511], 3, batch_size=128, lr=1e-3)
        seeds_of(tmp_path / place, last, 3, batch_size=64, lr=1e-3)
        assert judged("vit-alike", tmp_path / place).verdict == verdict


def test_more_augmentation_is_harder(tmp_path):
    for place, losses in (("harder", (0.5, 0.8, 1.1)), ("easier", (0.5, 0.8, 0.7))):
        for recipe, loss in zip(("none", "basic", "erasing"), losses, strict=True):
            three(tmp_path / place, spec_of(recipe=recipe), [0.4, 0.5], train=[2.0, loss], val=[2.0, 1.5])
    assert judged("cnn-harder", tmp_path / "harder").verdict == CONFIRMED
    assert judged("cnn-harder", tmp_path / "easier").verdict == CONTRADICTED
    assert judged("cnn-harder", tmp_path / "easier").measured == "0.500 → 0.800 → 0.700"


def test_dropout_calms(tmp_path):
    for place, ends in (("calm", (1.2, 2.0)), ("wild", (2.5, 2.0))):
        for dropout, end in zip((0.5, 0.0), ends, strict=True):
            three(tmp_path / place, spec_of(recipe="none", dropout=dropout), [0.4, 0.5, 0.5], val=[2.0, 1.0, end])
    assert judged("cnn-dropout-calms", tmp_path / "calm").verdict == CONFIRMED
    assert judged("cnn-dropout-calms", tmp_path / "wild").verdict == CONTRADICTED


def test_seeds_that_matter(tmp_path):
    seeds_of(tmp_path, [0.50, 0.51, 0.505])
    assert judged("seeds", tmp_path).verdict == UNDECIDED
    seeds_of(tmp_path, [0.50, 0.53, 0.51], recipe="none")
    found = judged("seeds", tmp_path)
    assert found.verdict == CONFIRMED
    assert "3.00 points (cnn, none" in found.measured
    seeds_of(tmp_path / "two", [0.4, 0.6])
    assert judged("seeds", tmp_path / "two").verdict == NOT_RUN


def test_a_diverged_seed_does_not_break_a_rule(tmp_path):
    seeds_of(tmp_path, [0.10, 0.10], 1, model="mlp_l")
    write_run(tmp_path, spec_of(1, seed=2, model="mlp_l"), [None])
    write_run(tmp_path, spec_of(dropout=0.0, recipe="none"), [0.3, None])
    for _, by_protocol in claims.verdicts(collect(tmp_path), ["sound"]):
        assert by_protocol["sound"].verdict in VERDICTS
    assert judged("mlp-l", tmp_path).verdict == CONFIRMED
    assert judged("cnn-slow", tmp_path).verdict == NOT_RUN


def test_what_only_kaggle_knows_is_not_run(tmp_path):
    write_run(tmp_path, spec_of(), rising(0.7))
    assert judged("kaggle-2", tmp_path).verdict == NOT_RUN
    assert "predict" in judged("kaggle-2", tmp_path).measured
