"""Which runs judge: those that their protocol ended, on CIFAR-10's images."""

import json
from dataclasses import replace

import pytest
from support.seals import reseal
from support.written_runs import CONTEXT, rising, spec_of, write_run

from fastcifar.errors import FastcifarError
from fastcifar.report.build import build_report
from fastcifar.report.collection import collect
from fastcifar.report.evidence import MEAN, STD, cut, evidence_of, known_datasets, other_images

LEVEL = [0.1 + n / 100 for n in range(27)] + [0.3] * 5  # it stops after epoch 32: no new best in four epochs
FACTS = CONTEXT["dataset"]


def test_a_run_counts_if_its_protocol_ended_it(tmp_path):
    write_run(tmp_path, spec_of(seed=0), LEVEL)
    write_run(tmp_path, spec_of(seed=1), rising(0.7, 5))
    write_run(tmp_path, spec_of(seed=3), rising(0.7, 100))
    write_run(tmp_path, spec_of(seed=4), [0.3, None])
    runs = {run.row["seed"]: run for run in collect(tmp_path).runs}
    assert {seed: cut(run) for seed, run in runs.items()} == {
        0: None, 1: "cut after 5 epochs", 3: None, 4: None,
    }  # fmt: skip
    found = evidence_of(collect(tmp_path), {})
    assert sorted(run.row["seed"] for run in found.counting.runs) == [0, 3, 4]
    assert list(found.aside.values()) == ["cut after 5 epochs"]
    assert not found.reencoded
    write_run(tmp_path / "short", spec_of(seed=2, epochs=7), rising(0.7, 7))
    assert cut(collect(tmp_path / "short").runs[0]) == "cut after 7 epochs"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"mean": [0.495, 0.48, 0.44]}, None),  # as a re-encoding's
        ({"mean": [0.51, 0.48, 0.44]}, "mean and standard deviation"),
        ({"std": [0.2, 0.2, 0.2]}, "mean and standard deviation"),
        ({"classes": list("abc")}, "other images"),
        ({"images_of_classes": [4000] * 10}, "other images"),
        ({"images_of_classes": [5000] * 9 + [4999]}, "other images"),
    ],
)
def test_images_of_another_kind_judge_nothing(change, why):
    found = other_images(FACTS | change)
    assert found is None if why is None else why in found


def test_a_dataset_that_is_not_described_judges_nothing_unless_somebody_knows_it(tmp_path):
    directory = write_run(tmp_path, spec_of(), LEVEL)

    def without(begun):
        for key in ("images_of_classes", "mean", "std"):
            del begun["dataset"][key]

    reseal(directory.path / "run.json", without)
    assert "does not describe" in next(iter(evidence_of(collect(tmp_path), {}).aside.values()))
    known = {key: FACTS[key] for key in ("name", "sha256", "images_of_classes", "std")}
    (tmp_path / "dataset.json").write_text(json.dumps(known | {"mean": [value + 0.001 for value in MEAN]}))
    found = evidence_of(collect(tmp_path), known_datasets(tmp_path, None))
    assert found.reencoded
    assert not found.aside
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(FastcifarError, match=r"dataset\.json is damaged"):
        known_datasets(tmp_path, None)


def test_the_facts_are_those_of_the_images(synthetic):
    facts = synthetic.facts()
    assert sum(facts["images_of_classes"]) == len(synthetic.ids("labelled"))
    assert (facts["mean"], facts["std"]) == (list(synthetic.mean), list(synthetic.std))
    assert len(MEAN) == len(STD) == 3


def test_the_page_says_what_judges_and_what_does_not(tmp_path):
    """Two seeds, three epochs and few images gave "confirmed by 18.50 % ± 27.53" once."""
    spec = spec_of(1, model="mlp_s")
    for seed, best in enumerate((0.12, 0.25)):
        write_run(tmp_path / "runs", replace(spec, seed=seed, epochs=3), rising(best, 3))
    made = build_report(tmp_path / "runs", tmp_path / "report")
    assert made.verdicts == {"not run": 27}
    assert any("2 runs cut after 3 epochs: drawn, but they judge no claim" in note for note in made.contents.notes)
    for seed in range(3):
        write_run(tmp_path / "whole", replace(spec, seed=seed), [value + 0.1 + seed / 1000 for value in LEVEL])
    made = build_report(tmp_path / "whole", tmp_path / "report")
    assert made.verdicts["confirmed"] >= 1
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.index("## What the runs say") < text.index("| the report says |")
    assert "Confirmed under sound and report, which has the same rules:" in text
