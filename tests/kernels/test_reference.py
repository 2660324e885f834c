"""The reference against torchvision's functional operations, applied sample by sample with the same draws."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from fastcifar.kernels import reference
from fastcifar.kernels import torchvision as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import images
from torchvision.transforms import v2

from fastcifar.augment import JITTER_ORDERS, Augment, Draws, draw
from fastcifar.errors import UsageError
from fastcifar.recipes import RECIPES

ROUNDING = 4e-6  # of pixels in [0, 1]: a few dozen float32 operations; divided by std when normalised
RESIZED = 8e-6  # torchvision's enlargement takes its weights from float32 coordinates up to 384


def deviation(spec: Augment, draws: Draws, seed: int = 0) -> torch.Tensor:
    """|reference - torchvision| on pixels that rotation leaves no choice about: (B, 3, S, S)."""
    x = images(len(draws), seed)
    apart = (reference.apply(x, draws, spec) - oracle.apply(x, draws, spec)).abs()
    if spec.rotate and not spec.size:
        apart[torch.from_numpy(oracle.rotation_ties(draws))[:, None].expand_as(apart)] = 0
    return apart


PARTS = {
    "nothing": Augment(),
    "flip": Augment(flip=0.5),
    "brightness": Augment(brightness=0.9),
    "contrast": Augment(contrast=0.9),
    "saturation": Augment(saturation=2.0),
    "hue": Augment(hue=0.5),
    "rotation": Augment(rotate=180.0),
    "erasing": Augment(erase=1.0),
    "normalise": Augment(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
    "erasing after normalising": Augment(erase=1.0, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
    "reflected crop": Augment(crop=4),
    "black crop": Augment(crop=4, crop_fill="zeros"),
    "largest reflected crop": Augment(crop=31),
    "largest black crop": Augment(crop=31, crop_fill="zeros"),
    "cutout": Augment(cutout=7),
    "whole cutout": Augment(cutout=32, mean=(0.5, 0.4, 0.3)),
    "crop before colours, cutout after erasing": replace(RECIPES["erasing"], crop=4, cutout=12),
    "standard": RECIPES["standard"],
    "airbench96": RECIPES["airbench96"],
    "basic": RECIPES["basic"],
    "erasing recipe": RECIPES["erasing"],
}


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_torchvisions(name):
    spec = PARTS[name]
    apart = deviation(spec, draw(spec, 1, 2, np.arange(150)))
    assert apart.max() <= ROUNDING / min(spec.std)


@pytest.mark.parametrize("size", [(32, 32), (40, 32), (224, 224), (256, 224), (384, 384)])
def test_resize_and_crop_are_torchvisions(size):
    spec = replace(RECIPES["imagenet256"], size=size, erase=0.5, flip=0.5, hue=0.2)
    assert deviation(spec, draw(spec, 1, 2, np.arange(12))).max() <= RESIZED / min(spec.std)


@pytest.mark.parametrize(("fill", "mode"), [("reflected", "reflect"), ("zeros", "constant")])
def test_a_crop_is_random_crop_with_the_same_offsets(fill, mode, monkeypatch):
    spec, x = Augment(crop=4, crop_fill=fill), images(20)
    draws = draw(spec, 3, 0, np.arange(20))
    got = reference.apply(x, draws, spec)
    crop = v2.RandomCrop(32, padding=4, padding_mode=mode)
    for n in range(20):
        top, left = int(draws.crop_top[n]) + 4, int(draws.crop_left[n]) + 4
        offsets = iter([torch.tensor([top]), torch.tensor([left])])
        monkeypatch.setattr(torch, "randint", lambda *_, **__: next(offsets))  # noqa: B023
        expected = crop(v2.functional.to_dtype(x[n].permute(2, 0, 1), torch.float32, scale=True))
        monkeypatch.undo()
        assert torch.equal(got[n], expected)


def test_a_cutout_is_cut_off_at_the_border_and_is_0_after_normalising():
    spec = Augment(cutout=6, mean=(0.5, 0.4, 0.3))
    draws = replace(draw(spec, 0, 0, np.arange(2)), cut_top=np.int32([-3, 29]), cut_left=np.int32([10, -3]))
    got = reference.apply(torch.full((2, 32, 32, 3), 255, dtype=torch.uint8), draws, spec)
    black = [(got[n] == 0).all(0).nonzero().tolist() for n in range(2)]
    assert black[0] == [[y, x] for y in range(3) for x in range(10, 16)]
    assert black[1] == [[y, x] for y in range(29, 32) for x in range(3)]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_jitter_in_every_order(order):
    spec = Augment(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.3)
    draws = replace(draw(spec, 0, 0, np.arange(8)), order=np.tile(np.array(order, np.uint8), (8, 1)))
    assert deviation(spec, draws).max() <= ROUNDING
    assert np.array_equal(JITTER_ORDERS, np.array(list(permutations(range(4)))))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**32 - 1), pixels=st.integers(0, 2**32 - 1))
def test_any_draw_of_the_fullest_recipe(seed, epoch, pixels):
    spec = replace(RECIPES["erasing"], rotate=180.0, hue=0.5, contrast=1.0)
    assert deviation(spec, draw(spec, seed, epoch, np.arange(6)), pixels).max() <= ROUNDING


def test_rotation_by_quarter_turns_is_exact():
    x = images(4)
    draws = draw(Augment(rotate=180.0), 0, 0, np.arange(4))
    quarter = np.array([0, 1 << 24, 0, -(1 << 24)], np.int32)
    draws = replace(draws, cos=np.roll(quarter, -1), sin=quarter)
    got = reference.apply(x, draws, Augment(rotate=180.0))
    for n in range(4):
        assert torch.equal(got[n], torch.rot90(x[n].permute(2, 0, 1) * np.float32(1 / 255), n, (1, 2)))


def test_few_pixels_are_a_matter_of_rounding():
    """What `deviation` leaves out is a handful, and nowhere else does the choice of a pixel differ."""
    spec = RECIPES["basic"]
    assert oracle.rotation_ties(draw(spec, 0, 0, np.arange(1000))).mean() < 1e-4


def test_result_is_channels_last_of_the_asked_dtype_and_the_input_is_untouched():
    x = images(5)
    before = x.clone()
    for dtype in reference.OUT_DTYPES:
        out = reference.apply(x, draw(RECIPES["erasing"], 0, 0, np.arange(5)), RECIPES["erasing"], dtype)
        assert (out.dtype, out.shape) == (dtype, (5, 3, 32, 32))
        assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, before)


@pytest.mark.parametrize("kernel", ["reference", "cpu", "torchvision"])
def test_wrong_arguments_are_refused(kernel):
    import importlib

    apply = importlib.import_module(f"fastcifar.kernels.{kernel}").apply
    spec, draws = Augment(), draw(Augment(), 0, 0, np.arange(2))
    with pytest.raises(UsageError, match="3 images but 2 draws"):
        apply(images(3), draws, spec)
    with pytest.raises(UsageError, match="float32"):
        apply(images(2).float(), draws, spec)
    with pytest.raises(UsageError, match=r"\(2, 3, 32, 32\)"):
        apply(images(2).permute(0, 3, 1, 2), draws, spec)
    with pytest.raises(UsageError, match="float64"):
        apply(images(2), draws, spec, torch.float64)
