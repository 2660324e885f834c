"""One's own network with weights from a file: every way to tune, continued, predicted with, and refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.own import write as write
from support.runs import CPU

from fastcifar.errors import UsageError
from fastcifar.models.names import WAYS
from fastcifar.models.pretrained import Pretrained
from fastcifar.runs.directory import find_runs
from fastcifar.runs.trained import TrainedRun
from fastcifar.system.once import TOLD
from fastcifar.training.api import train_run

BACKBONE = """
import torch
from torch import nn


def net(classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(16, classes),
    )
"""


@pytest.fixture
def tensors():
    """The weights of such a network with a thousand classes, as another program saved them."""
    torch.manual_seed(0)
    return {"0.weight": torch.randn(4, 3, 3, 3), "0.bias": torch.randn(4), "1.weight": torch.rand(4) + 0.5,
            "1.bias": torch.randn(4), "1.running_mean": torch.randn(4), "1.running_var": torch.rand(4) + 0.5,
            "6.weight": torch.randn(1000, 16), "6.bias": torch.randn(1000)}  # fmt: skip


@pytest.fixture
def train(synthetic, write, tmp_path, tensors, monkeypatch):
    """Return a function that trains the network with these weights, and the place of their file."""
    monkeypatch.delenv(TOLD, raising=False)
    write("net", BACKBONE)
    file = tmp_path / "weights.safetensors"
    save_file(tensors, file)

    def trained(out="runs", **settings):
        usual = {"experiment": 4, "model": "net:net", "recipe": "imagenet64-64", "weights": file, "epochs": 2,
                 "batch_size": 16, "data": synthetic, "out": tmp_path / out, "device": "cpu"}  # fmt: skip
        return train_run(**usual | settings)

    trained.file = file
    return trained


@pytest.mark.parametrize("tune", WAYS)
def test_each_way_trains_from_the_weights_and_predicts(train, tensors, synthetic, tune):
    summary = train(tune=tune)
    trained = TrainedRun.open(train.file.parent / summary["directory"])
    network = trained.network(CPU)
    assert isinstance(network, Pretrained)
    assert network.head.weight.shape == (10, 16)
    state = network.backbone.state_dict()
    same = {name for name in ("0.weight", "1.weight", "1.running_mean") if torch.equal(state[name], tensors[name])}
    kept = {"full": set(), "head": {"0.weight", "1.weight", "1.running_mean"}, "as-run": {"0.weight", "1.weight"}}
    assert same == kept[tune]


def test_it_goes_on_with_the_same_results(train):
    whole = train("whole")

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("stopped", watch=stop)
    again = train("stopped")
    assert {key: again[key] for key in ("val_accuracy", "val_loss")} == {
        key: whole[key] for key in ("val_accuracy", "val_loss")
    }


def test_from_scratch_it_begins_with_the_weights_of_the_factory_and_says_so_in_its_name(train, tensors):
    summary = train(weights="none", epochs=1)
    assert "-scratch-" in summary["run_id"]
    assert "-scratch-" not in train(epochs=1)["run_id"]
    assert len(find_runs(train.file.parent / "runs")) == 2


def test_a_last_layer_that_is_left_out_is_said_once(train):
    said = []
    train(say=said.append)
    train(say=said.append, lr=1e-3)
    about = [text for text in said if "last layer" in text]
    assert len(about) == 1
    assert "the last layer of 10 classes is new, and that of the file, of 1,000 classes, is left out" in about[0]


def test_weights_of_another_network_are_refused_with_the_list(train, tensors):
    tensors["more"] = torch.ones(1)
    del tensors["0.bias"], tensors["1.bias"]
    save_file(tensors, train.file)
    with pytest.raises(UsageError, match=r"'0.bias' is missing \(in all 2 missing: 0.bias, 1.bias, 1 unknown: more\)"):
        train()
    assert not find_runs(train.file.parent / "runs")


def test_what_is_not_given_is_not_guessed(train):
    with pytest.raises(UsageError, match="net:net does not say which images its weights want; name their recipe"):
        train(recipe=None)
    with pytest.raises(UsageError, match="net:net has no published weights; give their file with --weights"):
        train(weights=None)


ODD = """
import torch
from torch import nn


class Odd(nn.Module):
    def __init__(self, classes, persistent=True):
        super().__init__()
        self.register_buffer("drawn", torch.randn(3, 8), persistent=persistent)
        self.head = nn.Linear(8, 16)
        self.last = nn.Linear(16, classes)

    def forward(self, images):
        return self.last(self.head(images.mean((2, 3)) @ self.drawn))


class Changed(Odd):
    def forward(self, images):
        return super().forward(images).log_softmax(1)


class Looks(Odd):
    def forward(self, images):
        return super().forward(images) + 0 * self.last.weight.sum()


def hidden(n):
    return Odd(n, persistent=False)


def without(n):
    return nn.Sequential(nn.Flatten(), nn.Flatten())


def low(n):
    return nn.Sequential(nn.Flatten(), Low(3 * 64 * 64, 4), nn.Linear(4, n))


class Low(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes, dtype=torch.bfloat16)

    def forward(self, x):
        return super().forward(x.bfloat16()).float()
"""


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("without", "has no linear or convolutional layer"),
        ("Changed", "odd:Changed does not return what its last layer last returns, .* without a softmax"),
        ("Looks", "'Identity' object has no attribute 'weight'.*; the last layer is replaced by an Identity"),
        ("hidden", r"odd:hidden depends on random values that are not in its state_dict\(\)"),
    ],
)
def test_a_network_whose_last_layer_cannot_be_replaced_is_refused(train, write, factory, message):
    write("odd", ODD)
    with pytest.raises(UsageError, match=message):
        train(model=f"odd:{factory}", weights="none")


def test_an_inner_layer_may_be_called_head_as_the_last_layer_of_a_run_is(train, write):
    write("odd", ODD)
    first = train(model="odd:Odd", weights="none", epochs=1)
    second = train(model="odd:Odd", weights=f"{first['directory']}/model.safetensors", epochs=1, lr=1e-9)
    kept = [TrainedRun.open(Path(each["directory"])).network(CPU).backbone.state_dict() for each in (first, second)]
    torch.testing.assert_close(*kept, atol=1e-6, rtol=0)


def test_weights_of_any_dtype_give_features(train, write):
    write("odd", ODD)
    assert train(model="odd:low", weights="none", tune="head", epochs=1)["status"] == "finished"


def test_the_grid_trains_it_too(train, synthetic, command):
    done = command(
        "grid", "--exp", 4, "--model", "net:net", "--weights", train.file, "--set", "recipe=imagenet64-64", "--data",
        synthetic.path, "--out", "grid", "--seeds", "0,1", "--set", "tune=head", "--epochs", 1, "--device", "cpu",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert len(find_runs(train.file.parent / "grid")) == 2
