"""The experiments as data, and the protocols' rules against the words of the report and of its authors' code."""

from dataclasses import asdict, replace
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcifar.augment import Augment
from fastcifar.errors import UsageError
from fastcifar.experiments import EXPERIMENTS, PROTOCOLS, SEEDS, Protocol, experiment
from fastcifar.recipes import RECIPES
from fastcifar.runs.spec import RunSpec

SOUND, REPORT, AS_RUN = (PROTOCOLS[name] for name in ("sound", "report", "as-run"))
GRID = {"batch_size": (64, 128), "lr": (1e-2, 1e-3, 1e-4)}


@pytest.mark.parametrize(
    ("number", "protocol", "size"),
    [(1, "sound", 2), (1, "report", 2), (1, "as-run", 1)]
    + [(2, protocol, 72) for protocol in ("sound", "report", "as-run")]
    + [(3, "sound", 6), (3, "report", 6), (3, "as-run", 72)]
    + [(4, protocol, 3) for protocol in ("sound", "report", "as-run")],
)
def test_grids_have_the_report_s_sizes(number, protocol, size):
    configurations = experiment(number, protocol).configurations()
    assert len(configurations) == size
    assert len({tuple(sorted(c.items())) for c in configurations}) == size


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("number", EXPERIMENTS)
def test_every_configuration_is_a_run_and_the_headline_is_one_of_them(number, protocol):
    declared = experiment(number, protocol)
    assert declared.number == number
    for configuration in declared.configurations():
        spec = RunSpec(experiment=number, protocol=protocol, seed=0, dataset="0" * 64, **configuration)
        assert spec.model in declared.models
        assert (spec.epochs, SEEDS) == (100, (0, 1, 2))
    assert declared.configuration() in declared.configurations()


def test_experiment_1_is_the_report_s():
    fixed = {"batch_size": 128, "lr": 1e-3, "l2": 0.01, "dropout": 0.1, "recipe": "none"}
    for protocol in ("sound", "report"):
        assert experiment(1, protocol).configurations() == [fixed | {"model": name} for name in ("mlp_s", "mlp_l")]
    assert experiment(1, "as-run").configurations() == [fixed | {"model": "mlp_s", "dropout": 0.5}]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_experiment_2_is_the_report_s(protocol):
    declared = experiment(2, protocol)
    values = {key: {c[key] for c in declared.configurations()} for key in declared.configuration()}
    assert values == {
        "model": {"cnn"},
        "batch_size": {64, 128},
        "lr": {1e-2, 1e-3, 1e-4},
        "l2": {0.0, 0.01},
        "dropout": {0.0, 0.5},
        "recipe": {"none", "basic", "erasing"},
    }
    headline = {"model": "cnn", "batch_size": 128, "lr": 1e-3, "l2": 0.0, "dropout": 0.5, "recipe": "basic"}
    assert declared.configuration() == headline
    assert declared.configuration(lr=1.0, recipe="none") == headline | {"lr": 1.0, "recipe": "none"}


@pytest.mark.parametrize("protocol", ["sound", "report"])
def test_experiment_3_is_the_report_s(protocol):
    rest = {"model": "vit", "dropout": 0.0, "l2": 0.0, "recipe": "none"}
    expected = [{**rest, "batch_size": batch, "lr": lr} for batch in (64, 128) for lr in (1e-2, 1e-3, 1e-4)]
    assert experiment(3, protocol).configurations() == expected


def test_experiment_3_as_run_was_declared_over_the_grid_of_experiment_2():
    declared = experiment(3, "as-run")
    cnns = experiment(2, "as-run").configurations()
    assert declared.configurations() == [{**configuration, "model": "vit_as_run"} for configuration in cnns]
    plain = {"model": "vit_as_run", "batch_size": 128, "lr": 1e-3, "l2": 0.0, "dropout": 0.0, "recipe": "none"}
    assert declared.configuration() == plain


@pytest.mark.parametrize(("protocol", "tune"), [("sound", "full"), ("report", "full"), ("as-run", "as-run")])
def test_experiment_4_gives_each_network_its_preprocessing(protocol, tune):
    declared = experiment(4, protocol)
    fixed = {"batch_size": 128, "lr": 1e-4, "l2": 0.0, "dropout": 0.0, "tune": tune}
    recipes = {"mobilenet_v3_small": "imagenet256", "efficientnet_v2_s": "imagenet384", "resnet18": "imagenet256"}
    expected = [{**fixed, "model": model, "recipe": recipe} for model, recipe in recipes.items()]
    assert declared.configurations() == expected
    assert declared.configuration() == expected[0]
    assert declared.configuration(model="efficientnet_v2_s", tune="head") == {**expected[1], "tune": "head"}
    assert declared.configuration(model="resnet18", recipe="none") == {**expected[2], "recipe": "none"}


def test_protocols_differ_where_they_are_said_to():
    assert asdict(SOUND) | {"name": "report"} == asdict(REPORT)
    assert (SOUND.augment_validation, SOUND.split_by_seed, SOUND.batch_mean_loss) == (False, False, False)
    assert (SOUND.tune, AS_RUN.tune) == ("full", "as-run")
    assert (AS_RUN.augment_validation, AS_RUN.split_by_seed, AS_RUN.batch_mean_loss) == (True, True, True)


def test_the_authors_colour_jitter_changed_nothing():
    assert AS_RUN.recipe("none") == Augment()
    assert AS_RUN.recipe("basic") == Augment(flip=0.5, rotate=10)
    assert AS_RUN.recipe("erasing") == Augment(
        flip=0.5, rotate=10, erase=0.5, erase_area=(0.02, 0.33), erase_aspect=(0.3, 3.3)
    )
    for protocol in (SOUND, REPORT):
        jittered = Augment(flip=0.5, rotate=10, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)
        assert protocol.recipe("none") == Augment()
        assert protocol.recipe("basic") == jittered
        assert protocol.recipe("erasing") == replace(jittered, erase=0.5)


def test_unknown_names_are_refused_with_what_there_is():
    with pytest.raises(UsageError, match="experiment 7 does not exist; there are 1, 2, 3"):
        experiment(7, "sound")
    with pytest.raises(UsageError, match="protocol 'best' does not exist; there are sound, report, as-run"):
        experiment(1, "best")
    with pytest.raises(UsageError, match=f"recipe 'flips' does not exist; there are {', '.join(RECIPES)}"):
        SOUND.recipe("flips")


def last_epoch(protocol, accuracies):
    """The epoch, from 1, after which a run with these accuracies ends; None if it goes on."""
    return next((n for n in range(1, len(accuracies) + 1) if protocol.stops(accuracies[:n])), None)


def kept_epoch(protocol, accuracies):
    return max(n for n in range(1, len(accuracies) + 1) if protocol.keeps(accuracies[:n]))


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), max_size=30), st.sampled_from(list(PROTOCOLS)))
def test_the_kept_epoch_is_the_last_whose_weights_were_kept(accuracies, name):
    protocol = PROTOCOLS[name]
    assert protocol.kept(accuracies) == (kept_epoch(protocol, accuracies) if accuracies else None)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_kept_epoch_of_100_000_takes_no_time(name):
    """It took half an hour once, as it grew with the square of the epochs."""
    falling, begun = [1 - n / 100_000 for n in range(100_000)], process_time()
    assert PROTOCOLS[name].kept(falling) == 1
    assert process_time() - begun < 2


RISING = [0.1 + n / 1000 for n in range(100)]


def test_four_epochs_without_a_new_best_end_a_run():
    early = replace(SOUND, min_epochs=1)
    assert last_epoch(early, [0.1, 0.2, 0.3, 0.25, 0.26, 0.27, 0.28, 0.29]) == 7
    assert last_epoch(early, [0.1, 0.2, 0.3, 0.25, 0.26, 0.27, 0.31, 0.29, 0.3, 0.3]) is None
    assert last_epoch(early, [0.3, 0.3, 0.3, 0.3, 0.3, 0.3]) == 5  # to equal the best is no new best
    assert last_epoch(early, RISING) is None


@pytest.mark.parametrize("protocol", [SOUND, REPORT])
def test_but_not_before_epoch_30(protocol):
    assert last_epoch(protocol, [0.5] + [0.4] * 60) == 30
    assert last_epoch(protocol, RISING[:26] + [0.1] * 60) == 30
    assert last_epoch(protocol, RISING[:27] + [0.1] * 60) == 31
    assert last_epoch(protocol, RISING[:50] + [0.1] * 60) == 54
    assert last_epoch(protocol, RISING) is None


def test_the_authors_stopped_when_the_oldest_of_four_was_the_largest():
    early = replace(AS_RUN, min_epochs=4)
    assert last_epoch(early, [0.4, 0.3, 0.3, 0.3]) == 4
    assert last_epoch(early, [0.1, 0.2, 0.3, 0.25, 0.26, 0.27]) == 6  # the third epoch is the oldest of the last four
    assert last_epoch(early, [0.9, 0.1, 0.2, 0.95, 0.3, 0.4, 0.5, 0.6]) == 7
    assert last_epoch(early, [0.9, 0.1, 0.2, 1.0, 0.3, 1.1, 0.5, 1.2]) is None
    assert last_epoch(AS_RUN, [0.5] + [0.4] * 60) == 32
    assert last_epoch(AS_RUN, RISING[:28] + [0.1] * 60) == 32  # of epochs 29 to 32, all equal, the oldest is a largest
    assert last_epoch(AS_RUN, RISING[:30] + [0.01 * n for n in range(9)] + RISING[50:]) == 33
    assert last_epoch(AS_RUN, RISING) is None


def test_the_best_weights_are_kept_or_the_authors_last_of_the_last_four():
    falling_then_better = [0.5, 0.9, 0.8, 0.7, 0.6, 0.65, 0.7, 0.5]
    assert kept_epoch(SOUND, falling_then_better) == 2
    assert kept_epoch(AS_RUN, falling_then_better) == 7  # the largest of epochs 4 to 7
    assert kept_epoch(SOUND, [0.5, 0.5, 0.5]) == 1  # the first of equals
    assert kept_epoch(AS_RUN, [0.5, 0.5, 0.5]) == 3  # the last of equals
    assert kept_epoch(SOUND, [0.1]) == kept_epoch(AS_RUN, [0.1]) == 1


accuracies = st.lists(st.sampled_from([n / 8 for n in range(9)]), min_size=1, max_size=60)  # few values: many ties
rules = st.builds(
    Protocol, st.just("any"), window_rule=st.booleans(), min_epochs=st.integers(1, 40), window=st.integers(1, 6)
)


def brute_force(rule, accuracies):
    """(last epoch or None, kept epoch) epoch by epoch, as reference/as-run.md's sentences have it."""
    best, best_epoch, without_new_best, kept = -1.0, 0, 0, 0
    for epoch, accuracy in enumerate(accuracies, start=1):
        window = [accuracies[n - 1] for n in range(epoch - rule.window + 1, epoch + 1) if n >= 1]
        if accuracy > best:
            best, best_epoch, without_new_best = accuracy, epoch, 0
        else:
            without_new_best += 1
        if all(accuracy >= other for other in window):
            kept = epoch
        if epoch < rule.min_epochs:
            continue
        full = len(window) == rule.window
        if rule.window_rule and full and all(window[0] >= other for other in window):
            return epoch, kept
        if not rule.window_rule and without_new_best >= rule.window:
            return epoch, best_epoch
    return None, kept if rule.window_rule else best_epoch


@settings(max_examples=500)
@given(rules | st.sampled_from(list(PROTOCOLS.values())), accuracies)
def test_rules_against_brute_force(rule, accuracies):
    expected_last, expected_kept = brute_force(rule, accuracies)
    last = last_epoch(rule, accuracies)
    assert last == expected_last
    assert kept_epoch(rule, accuracies[:last]) == expected_kept
