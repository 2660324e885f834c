"""The trial of torchvision's networks: what a network must do, and that each has a row whatever becomes of others."""

import sys

import pytest
from support.scripts import script

from bench.tables.networks import networks as table_of
from fastcifar.errors import FastcifarError
from fastcifar.throughput import rows


@pytest.fixture(scope="module")
def networks():
    return script("tools/networks.py")


@pytest.mark.whole
def test_a_network_trains_goes_on_and_predicts_what_it_had_measured(networks, tmp_path):
    attempt = networks.Attempt("mnasnet0_5", tmp_path)
    attempt.everything()
    assert (attempt.stage, attempt.side, attempt.tune) == ("predict", 224, "full")
    (path,) = tmp_path.glob("exp4/*")
    with pytest.raises(FastcifarError, match=r"the kept weights have the loss \d\.\d+, and training had 9\.00000"):
        attempt._predict(path, [{"val_loss": 9.0}] * 2)


def test_a_network_that_fails_is_a_row_and_the_others_follow(networks, tmp_path, monkeypatch):
    def everything(attempt):
        if attempt.name in failing:
            attempt.stage = "restore"
            raise RuntimeError("no luck\nat all")

    monkeypatch.setattr(networks.Attempt, "everything", everything)
    file, failing = tmp_path / "rows.jsonl", ["resnet18"]
    networks.try_all(["vit_h_14", "resnet18", "efficientnet_b0"], file, networks.row_of)
    found = {row["model"]: row for row in rows.read(file)}
    assert list(found) == ["efficientnet_b0", "resnet18", "vit_h_14"]
    assert (found["resnet18"]["result"], found["resnet18"]["note"]) == (
        "fails: restore",
        "RuntimeError: no luck at all",
    )
    assert (found["vit_h_14"]["result"], found["vit_h_14"]["tune"], found["vit_h_14"]["side"]) == ("works", "head", 518)

    lines = table_of(rows.read(file)).splitlines()
    assert lines[0] == "2 of the 3 networks that were tried work."
    assert [" ".join(line.split()[1:8:2]) for line in lines[4:7]] == [
        "efficientnet_b0 5.3 224 all", "resnet18 11.7 224 all", "vit_h_14 633.5 518 last"
    ]  # fmt: skip
    assert "resizes to 256 (bicubic) by itself" in lines[4]
    assert "| fails: restore | 0 | RuntimeError: no luck at all |" in lines[5]

    failing.clear()  # a network that is tried again keeps one row
    networks.try_all(["resnet18"], file, networks.row_of)
    networks.try_all(["vit_l_16"], file, networks.untried)
    assert [row["result"] for row in rows.read(file)] == ["works"] * 3 + ["untested"]
    assert "| vit_l_16 | 304.3 | 224 | last layer | untested |  | has more than 200 million" in table_of(
        rows.read(file)
    )


def test_a_network_whose_process_is_killed_is_a_row(networks, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    row = networks.apart("resnet18", tmp_path)
    assert (row["result"], row["note"], row["seconds"]) == ("fails", "its process ended with status 1", None)
