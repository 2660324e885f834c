"""A run's weights: read back as they were kept, refused where they cannot be meant for a dataset."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from support.builders import CIFAR10
from support.kept import kept, saying
from support.seals import reseal
from support.specs import SPEC

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.models.build import build
from fastcifar.runs.trained import TrainedRun, open_runs

CPU = torch.device("cpu")


def test_a_run_is_opened_with_what_is_known_of_it(synthetic, tmp_path):
    path = kept(synthetic, tmp_path, seed=7)
    run = TrainedRun.open(path)
    assert (run.spec.seed, run.outputs, run.epoch, str(run)) == (7, 10, 3, str(path))
    assert run.dataset == {"name": synthetic.name, "sha256": synthetic.sha256, "classes": list(synthetic.classes)}
    run.require_fit(synthetic)
    assert run.notes(synthetic) == []


def test_its_network_has_the_kept_weights_and_is_ready_to_be_evaluated(synthetic, tmp_path):
    weights = build("cnn", 10, 0.5, seed=99).state_dict()
    network = TrainedRun.open(kept(synthetic, tmp_path, weights)).network(CPU)
    assert not network.training
    found = network.state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.parametrize(("protocol", "seed"), [("sound", None), ("report", None), ("as-run", 5)])
def test_its_split_is_that_of_its_protocol(synthetic, tmp_path, protocol, seed):
    assert TrainedRun.open(kept(synthetic, tmp_path, protocol=protocol, seed=5)).split_seed == seed


# what is refused


@pytest.mark.parametrize("made", [False, True])
def test_what_is_no_run_is_refused(tmp_path, made):
    path = tmp_path / "exp2"
    if made:
        path.mkdir()
    with pytest.raises(UsageError, match=r"exp2 is not a run directory, as it has no run\.json; runs are called runs/"):
        TrainedRun.open(path)


@pytest.mark.parametrize(("status", "state"), [("unfinished", "not finished"), ("diverged", "diverged")])
def test_a_run_without_weights_is_refused(synthetic, tmp_path, status, state):
    path = kept(synthetic, tmp_path, status=status)
    (path / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=rf"is {state} and has no model\.safetensors, so no weights to predict with"):
        TrainedRun.open(path)


UNKNOWN = "does not hold a run that this version knows"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda begun: begun.pop("spec"), r"run\.json is damaged \(Object missing required field `spec`\)"),
        (lambda begun: begun["spec"].update(garden=1), UNKNOWN),
        (lambda begun: begun["spec"].pop("lr"), r"run\.json is damaged \(Object missing required field `lr`"),
        (lambda begun: begun.pop("dataset"), UNKNOWN),
    ],
)
def test_a_run_json_that_describes_no_run_is_damage(synthetic, tmp_path, damage, message):
    path = kept(synthetic, tmp_path)
    reseal(path / "run.json", damage)
    with pytest.raises(FastcifarError, match=message) as raised:
        TrainedRun.open(path)
    assert raised.value.exit_code == 1


def test_damaged_weights_are_named(synthetic, tmp_path):
    path = kept(synthetic, tmp_path)
    (path / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(FastcifarError, match=r"model\.safetensors is damaged"):
        TrainedRun.open(path)
    path = kept(synthetic, tmp_path, build("mlp_s", 10, 0.0, 0).state_dict(), seed=1)
    with pytest.raises(FastcifarError, match=r"model\.safetensors does not hold a cnn"):
        TrainedRun.open(path).network(CPU)


def test_other_classes_are_refused_by_their_names(synthetic, digits, tmp_path):
    run = TrainedRun.open(kept(digits, tmp_path))
    with pytest.raises(UsageError) as raised:
        run.require_fit(synthetic)
    assert str(raised.value) == (
        f"{run} tells 10 classes apart (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), but {synthetic.path} has 10 "
        f"({', '.join(synthetic.classes)}); choose a dataset with the run's classes, or train a run on this one"
    )


def test_of_an_older_run_the_number_of_classes_is_compared(synthetic, digits, tmp_path):
    older = TrainedRun.open(kept(digits, tmp_path, classes=False))
    older.require_fit(synthetic)
    (note,) = older.notes(synthetic)
    assert "whose 10 classes may differ" in note
    few = TrainedRun.open(kept(digits, tmp_path, saying([0.5, 0.5]), classes=False, seed=1))
    with pytest.raises(UsageError, match=r"tells 2 classes apart, but .* has 10 \("):
        few.require_fit(synthetic)


def test_a_run_given_twice_is_refused_wherever_it_lies(synthetic, tmp_path):
    first, second = kept(synthetic, tmp_path / "a"), kept(synthetic, tmp_path / "b", seed=1)
    assert [str(run) for run in open_runs([second, first], synthetic)] == [str(second), str(first)]
    for twin in (first, first / ".." / first.name, kept(synthetic, tmp_path / "copy")):
        with pytest.raises(UsageError, match=rf"are the same run, {first.name}; leave one out"):
            open_runs([first, second, twin], synthetic)


# what is said


def test_another_dataset_of_the_same_classes_is_noted(synthetic, tmp_path):
    path = kept(synthetic, tmp_path, dataset="0" * 64, name="the other one")
    run = TrainedRun.open(path)
    run.require_fit(synthetic)
    assert run.notes(synthetic) == [
        f"{path} was trained on another dataset, the other one; images of {synthetic.path} may be among its "
        "training images"
    ]


@pytest.mark.parametrize(("status", "state"), [("unfinished", "not finished"), ("diverged", "diverged")])
def test_a_run_that_did_not_end_well_is_noted(synthetic, tmp_path, status, state):
    run = TrainedRun.open(kept(synthetic, tmp_path, status=status))
    assert run.notes(synthetic) == [f"{run} is {state}; its weights are those of epoch 3"]


def test_the_helper_of_these_tests_makes_what_training_makes(synthetic, tmp_path):
    begun = json.loads((kept(synthetic, tmp_path) / "run.json").read_text())
    assert begun["spec"] == asdict(replace(SPEC, dataset=synthetic.sha256, precision="float32"))
    assert tuple(synthetic.classes) == CIFAR10
