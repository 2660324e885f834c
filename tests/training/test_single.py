"""A batch of a single image that BatchNorm cannot normalise is refused before training, in every way to train."""

from dataclasses import replace

import pytest
import torch
from support.command import TINY
from support.own import write as write
from support.specs import SPEC

import fastcifar
from fastcifar.data.convert import convert
from fastcifar.errors import UsageError
from fastcifar.models.own import code_of
from fastcifar.pipeline import Request
from fastcifar.runs.plan import headline_runs
from fastcifar.training import session, single
from fastcifar.training.single import check_single_images, smallest

CPU = torch.device("cpu")
NETWORKS = """
from torch import nn


def one(classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes)
    )


def many(classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, classes))
"""
REFUSED = (
    r"batch_size 14: the last batch of the 29 training images has a single image, and nets:one has BatchNorm layers "
    r"that need two; choose another size, such as --set batch_size=15"
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """29 training and 7 validation images."""
    return convert("synthetic:36", tmp_path_factory.mktemp("data") / "small")


@pytest.fixture
def spec(dataset, write):
    write("nets", NETWORKS)
    return replace(
        SPEC, model="nets:one", code=code_of("nets:one"), dropout=0.0, batch_size=14, dataset=dataset.sha256,
        recipe="none", epochs=1, precision="float32",
    )  # fmt: skip


def test_the_smallest_batch_is_that_of_the_requests(dataset):
    for sharing in (1, 2, 3):
        for batch_size in range(sharing, 40, sharing):
            sizes = set()
            for rank in range(sharing):
                request = Request(dataset, batch_size=batch_size, shard=(rank, sharing))
                full, rest = divmod(request.samples, request.share)
                sizes |= set([request.share] * full + [rest] * bool(rest))
            assert smallest(29, batch_size, sharing) == min(sizes), (sharing, batch_size)


def test_every_way_to_train_refuses_it(dataset, spec, tmp_path):
    with pytest.raises(UsageError, match=f"^{REFUSED}$"):
        session.run([spec], dataset, tmp_path / "runs", CPU)
    with pytest.raises(UsageError, match=REFUSED):
        fastcifar.train(spec, dataset, tmp_path / "runs", CPU)
    with pytest.raises(UsageError, match=REFUSED):
        fastcifar.train_run(spec, dataset, out=tmp_path / "runs", device="cpu")
    assert not list(tmp_path.glob("runs/exp2/*/run.json"))


@pytest.mark.parametrize("name", ["train", "grid"])
def test_a_command_refuses_it_before_it_trains(command, dataset, spec, tmp_path, name):
    seeds = ("--seeds", 0, "--data", dataset.path, "--out", tmp_path / "runs", "--set", "recipe=none")
    answer = command(name, "--exp", 2, "--model", "nets:one", *TINY, "--set", "batch_size=14", *seeds)
    assert answer.code == 2
    assert "such as --set batch_size=15" in " ".join(answer.err.split())
    assert not (tmp_path / "runs").exists()


def test_networks_that_train_on_one_image_do(dataset, spec, tmp_path):
    many = replace(spec, model="nets:many", code=code_of("nets:many"))
    assert fastcifar.train(many, dataset, tmp_path, CPU)["epochs"] == 1
    assert fastcifar.train(replace(spec, batch_size=15), dataset, tmp_path, CPU)["epochs"] == 1
    check_single_images([replace(SPEC, dataset=dataset.sha256, batch_size=14)], dataset)  # a CNN without BatchNorm


def test_a_frozen_backbone_is_no_obstacle(dataset):
    (whole,) = headline_runs(4, dataset, seeds=[0], model="resnet18", batch_size=14, recipe="none")
    check_single_images([replace(whole, tune="head")], dataset)  # BatchNorm is in evaluation mode
    for tune in ("full", "as-run"):
        with pytest.raises(UsageError, match="resnet18 has BatchNorm layers that need two"):
            check_single_images([replace(whole, tune=tune)], dataset)


def test_a_share_of_one_image_is_refused_and_no_network_is_built_without_need(dataset, spec, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"single image in one of the 2 processes, .* --set batch_size=16$"):
        check_single_images([replace(spec, batch_size=14)], dataset)
    with pytest.raises(UsageError, match="batch_size 2: each batch of the 29 training images has a single image"):
        check_single_images([replace(spec, batch_size=2)], dataset)
    monkeypatch.setattr(single, "build", lambda *_: 1 / 0)
    check_single_images([replace(spec, batch_size=12)], dataset)
