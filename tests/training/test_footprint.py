"""What a step takes, against what can be counted by hand."""

from copy import deepcopy

import pytest
import torch
from support.runs import spec_of
from support.tuning import MODEL, batch_of, changed, short_of_memory, spec
from torch import nn

from fastcifar.training.footprint import footprint, peak_flops
from fastcifar.training.learner import Learner, trained_parameters
from fastcifar.training.optimizers import optimizer_of

CPU = torch.device("cpu")
N = 16


class Countable(nn.Module):
    """A convolution 3 to 4 (3 x 3, same size), ReLU, and a linear layer to 10 classes."""

    def __init__(self):
        super().__init__()
        self.convolution, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 32 * 32, 10)

    def forward(self, images, noise=None):
        return self.head(torch.relu(self.convolution(images)).flatten(1))


@pytest.fixture
def countable(synthetic):
    learner = Learner.new(spec_of(synthetic), 10, CPU)
    learner.model = Countable()
    learner.optimizer = optimizer_of(trained_parameters(learner.model), learner.spec, learner.spec.lr)
    return learner


PIXELS = 32 * 32
CONVOLUTION, LINEAR = 2 * PIXELS * 4 * 27, 2 * 4 * PIXELS * 10  # forward: two for each multiply-add
IMAGES, HIDDEN, LOGITS = 4 * 3 * PIXELS, 4 * 4 * PIXELS, 4 * 10  # bytes an image


def test_operations_are_those_counted_by_hand(countable, synthetic):
    # backward: of the weights, and of what came in, which nobody wants of images
    assert footprint(countable, batch_of(synthetic, N)).flops == 2 * CONVOLUTION + 3 * LINEAR


@pytest.mark.parametrize(
    ("layer", "forward"),
    [
        (nn.Conv2d(6, 6, 3, padding=1, groups=6), 2 * PIXELS * 6 * 9),  # depthwise
        (nn.Conv2d(6, 8, 3, padding=1, groups=2), 2 * PIXELS * 8 * 3 * 9),
        # not 1x1: of 6 channels, torch 2.14's gradient of that overruns its memory on a processor with AVX2 alone
        (nn.Conv2d(6, 8, 3, stride=2, padding=1), 2 * PIXELS // 4 * 8 * 6 * 9),
        (nn.ConvTranspose2d(6, 4, 2, stride=2), 2 * PIXELS * 6 * 4 * 4),
    ],
)
def test_gradients_of_a_convolution_take_twice_its_operations(layer, forward, countable, synthetic):
    """torch's own count of them is of a convolution without groups."""
    first = nn.Conv2d(3, 6, 1)
    last = nn.Linear(layer(torch.zeros(1, 6, 32, 32)).numel(), 10)

    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.layer, self.last = first, layer, last

        def forward(self, images, noise=None):
            return self.last(self.layer(self.first(images)).flatten(1))

    countable.model = Three()
    countable.optimizer = optimizer_of(trained_parameters(countable.model), countable.spec, countable.spec.lr)
    rest = 2 * (2 * PIXELS * 6 * 3) + 3 * (2 * last.in_features * 10)
    assert footprint(countable, batch_of(synthetic, 4)).flops == 3 * forward + rest


def test_bytes_are_those_counted_by_hand(countable, synthetic):
    found = footprint(countable, batch_of(synthetic, N)).activation_bytes
    # images for the convolution, ReLU's output for itself and, from channels_last in order, for the linear layer,
    # log-probabilities and labels
    counted = N * (IMAGES + 2 * HIDDEN + LOGITS + 8)
    assert counted <= found <= counted + 64


@pytest.mark.parametrize("most", [8, 3])
def test_where_memory_is_short_they_are_those_of_a_part(countable, synthetic, most, monkeypatch):
    whole = footprint(countable, batch_of(synthetic, N))
    countable._untried = True
    short_of_memory(countable.model, most, monkeypatch)
    found = footprint(countable, batch_of(synthetic, N))
    assert countable.micro_batch == {8: 8, 3: 2}[most]
    assert found.flops == whole.flops
    assert found.activation_bytes == pytest.approx(whole.activation_bytes * countable.micro_batch / N, rel=0.001)


def test_a_frozen_backbone_keeps_and_takes_less(synthetic):
    full, head = (
        footprint(Learner.new(spec(synthetic, weights="none", tune=tune), 10, CPU), batch_of(synthetic))
        for tune in ("full", "head")
    )
    assert head.activation_bytes < full.activation_bytes / 50
    assert head.flops < full.flops / 2


def test_the_learner_is_as_before(synthetic):
    learner = Learner.new(spec(synthetic, weights="none"), 10, CPU)
    batch = batch_of(synthetic)
    learner.step(batch)
    learner.epoch = 3
    tensors, note = (deepcopy(part) for part in learner.state())
    images = batch.images.clone()
    footprint(learner, batch)
    after, note_after = learner.state()
    assert not changed(tensors, after)
    assert (tensors.keys(), note) == (after.keys(), note_after)
    assert all(parameter.grad is None for parameter in learner.model.parameters())
    assert torch.equal(batch.images, images)
    assert learner.spec.model == MODEL


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_peak_is_some_operations_a_second_and_throws_no_dice(dtype, monkeypatch):
    monkeypatch.setattr("fastcifar.training.footprint.PEAK_SIDE", {"cpu": 256})
    state = torch.get_rng_state()
    assert 1e6 < peak_flops(CPU, dtype, repeats=3) < 1e14
    assert torch.equal(torch.get_rng_state(), state)
