"""What a report is made from: every run is in it or said not to be."""

import json

import numpy as np
import pytest
from support.written_runs import rising, spec_of, write_run

from fastcifar.errors import UsageError
from fastcifar.report.collection import collect


def test_runs_are_grouped_by_configuration_and_seed(tmp_path):
    for seed in (2, 0, 1):
        write_run(tmp_path, spec_of(seed=seed), rising(0.6 + seed / 100))
    write_run(tmp_path, spec_of(recipe="none"), rising(0.5))
    write_run(tmp_path, spec_of(protocol="as-run"), rising(0.55))
    found = collect(tmp_path)
    assert [list(each.runs) for each in found.configurations] == [[0], [0, 1, 2], [0]]
    assert found.protocols == ["sound", "as-run"]
    (basic,) = found.find(recipe="basic", protocol="sound")
    assert basic.accuracies == [0.6, 0.61, 0.62]
    assert "basic, batch 128, lr 0.001, L2 0, dropout 0.5" in basic.label
    assert not found.notes


def test_whatever_is_no_ended_run_is_said(tmp_path):
    write_run(tmp_path, spec_of(), rising(0.6))
    write_run(tmp_path, spec_of(seed=1), rising(0.6), ended=False)
    damaged = write_run(tmp_path, spec_of(seed=2), rising(0.6))
    (damaged.path / "summary.json").write_text("{")
    lines = write_run(tmp_path, spec_of(seed=3), rising(0.6))
    (lines.path / "metrics.jsonl").write_text("{\n")
    asked = write_run(tmp_path, spec_of(seed=4), rising(0.6), right=np.ones(10, bool))
    (asked.path / "predictions.safetensors").write_text("no")
    (tmp_path / "exp2" / "holiday").mkdir()
    found = collect(tmp_path)
    assert [run.row["seed"] for run in found.runs] == [0, 4]
    said = "\n".join(found.notes)
    assert "summary.json is damaged" in said
    assert "metrics.jsonl is damaged" in said
    assert "holiday is no run" in said
    assert "predictions.safetensors is damaged" in said
    assert "delete it, and fastcifar report --data makes it anew" in said
    assert found.runs[1].predictions is None
    assert "1 run unfinished: left out until finished" in said
    assert len(found.unfinished) == 1


def test_runs_of_another_setting_are_set_aside_and_said(tmp_path):
    for seed in range(2):
        write_run(tmp_path, spec_of(seed=seed, epochs=30), rising(0.6))
    odd = spec_of(seed=2, epochs=100)
    write_run(tmp_path, odd, rising(0.9))
    write_run(tmp_path, spec_of(protocol="as-run", epochs=100), rising(0.5))  # another protocol has its own
    found = collect(tmp_path)
    assert len(found.runs) == 3
    (note,) = found.notes
    assert "1 run of experiment 2, sound, set aside: max_epochs 100, not 30" in note
    assert odd.run_id in note


def test_a_network_from_scratch_is_not_mixed_with_a_pretrained_one(tmp_path):
    for seed in range(2):
        write_run(tmp_path, spec_of(4, seed=seed, weights="some weights"), rising(0.8))
    write_run(tmp_path, spec_of(4, seed=0), rising(0.3))
    write_run(tmp_path, spec_of(4, seed=0, model="resnet18", weights="others"), rising(0.7))  # each network has its own
    found = collect(tmp_path)
    assert sorted(len(each.runs) for each in found.configurations) == [1, 2]
    (note,) = found.notes
    assert "set aside: weights none, not some weights" in note


def test_a_diverged_run_is_one_that_ended(tmp_path):
    write_run(tmp_path, spec_of(), [None])
    (each,) = collect(tmp_path).configurations
    assert each.accuracies == [None]


def test_how_much_of_the_grid_there_is(tmp_path):
    for seed in range(3):
        write_run(tmp_path, spec_of(seed=seed), rising(0.6))
    write_run(tmp_path, spec_of(seed=7), rising(0.6))  # a seed that the report has not
    write_run(tmp_path, spec_of(1, model="mlp_l"), rising(0.1))
    rows = {(number, protocol): (ended, total) for number, protocol, ended, total in collect(tmp_path).missing()}
    assert rows[2, "sound"] == (3, 216)
    assert rows[1, "sound"] == (1, 6)
    assert rows[3, "sound"] == (0, 18)
    assert rows[3, "as-run"] == (0, 216)


def test_a_configuration_outside_the_grid_comes_last(tmp_path):
    write_run(tmp_path, spec_of(lr=0.5), rising(0.1))
    write_run(tmp_path, spec_of(), rising(0.6))
    assert [each.values["lr"] for each in collect(tmp_path).configurations] == [1e-3, 0.5]


def test_no_folder(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        collect(tmp_path / "nothing")


def test_run_json_of_another_kind_is_said(tmp_path):
    directory = write_run(tmp_path, spec_of(), rising(0.6))
    (directory.path / "run.json").write_text(json.dumps({"spec": {"a": 1}}))
    assert "run.json is damaged (Object missing required field `experiment`" in collect(tmp_path).notes[0]
