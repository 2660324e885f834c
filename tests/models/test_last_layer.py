"""The last layer of a network: which ones are found and replaced, and what is said of the others."""

import pytest
import torch
import torchvision
from torch import nn

from fastcifar.errors import UsageError
from fastcifar.models.build import build
from fastcifar.models.pretrained import Pretrained
from fastcifar.models.restore import fill


def noise_images(n, side):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def timm_s(classifier, *layers):
    network = nn.Sequential(*layers)
    network.default_cfg, network.num_features = {"classifier": classifier}, 6
    return network


@pytest.mark.parametrize(
    ("network", "ends"),
    [
        (
            nn.Sequential(nn.Linear(2, 2), nn.Conv2d(2, 5, 3)),
            r"ends in 1, Conv2d\(2, 5, kernel_size=\(3, 3\), stride=.*\),",
        ),
        (nn.Sequential(nn.Conv2d(2, 4, 1, groups=2)), r"ends in 0, Conv2d\(.*groups=2\),"),
        (nn.Sequential(nn.Conv2d(2, 4, 1, stride=2)), r"ends in 0, Conv2d\(.*stride=\(2, 2\)\),"),
        (nn.Sequential(nn.Conv1d(2, 4, 1)), r"ends in 0, Conv1d\(.*\),"),
        (nn.Sequential(nn.ReLU()), "has no linear or convolutional layer,"),
        (timm_s("head", nn.Linear(2, 2)), "has no layer head,"),
        (timm_s(("head", "head_dist"), nn.Linear(2, 2)), "has 2 last layers, head and head_dist,"),
    ],
)
def test_last_layers_that_cannot_be_replaced_are_refused(network, ends):
    wanted = (
        f"Sequential {ends} and fastcifar can replace one linear layer or one 1 x 1 convolution only; choose another"
    )
    with pytest.raises(UsageError, match=wanted):
        Pretrained(network, 2)


def test_timm_s_networks_name_their_last_layer():
    model = Pretrained(timm_s("1", nn.Flatten(), nn.Linear(48, 5), nn.Linear(5, 5)), 2)
    assert (model.head_place, model.head.in_features) == ("1", 48)
    model = Pretrained(timm_s("2", nn.Flatten(), nn.Linear(48, 6), nn.Identity()), 2)  # published without one
    assert (model.head_place, model.head.in_features) == ("2", 6)
    assert model(noise_images(2, 4)).shape == (2, 2)


class Twice(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    ("network", "gives"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.Unflatten(1, (48, 1))), r"\(2, 48, 1\) .* not \(2, 48\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(48, 5), Twice()), r"a tuple .* of 1, not \(2, 48\)"),
        (nn.Sequential(nn.Conv2d(3, 5, 1)), r"\(2, 3, 4, 4\) to the layer that took the place of 0, not \(2, 3\)"),
        (nn.Sequential(nn.Conv2d(3, 5, 1), nn.Flatten()), r"\(2, 48\) .* of 0, not \(2, 3\), so it does not end there"),
    ],
)
def test_networks_that_go_on_behind_their_last_layer_are_refused_at_the_first_batch(network, gives):
    with pytest.raises(UsageError, match=f"the network gives {gives}"):
        Pretrained(network, 2)(noise_images(2, 4))


def test_squeezenet_s_head_gives_torchvision_s_logits_where_they_are_positive():
    """torchvision's last convolution comes before a ReLU and the pool, and our linear layer behind them."""
    theirs = torchvision.models.squeezenet1_1(num_classes=10).eval()
    last, model = theirs.classifier[1], build("squeezenet1_1", 10, 0.0, 0).eval()
    assert (model.head_place, model.head.in_features) == ("classifier.1", 512)
    fill(model.backbone, {name: value for name, value in theirs.state_dict().items() if "classifier" not in name})
    with torch.inference_mode():
        model.head.weight.copy_(last.weight.flatten(1))
        model.head.bias.copy_(last.bias.fill_(10.0))
        x = noise_images(2, 64)
        torch.testing.assert_close(model(x), theirs(x), atol=1e-4, rtol=1e-5)
        model.head.bias.fill_(-10.0)
        assert (model(x) < 0).all()
