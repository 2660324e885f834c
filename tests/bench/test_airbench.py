"""airbench's loader in our words: each image is a shifted and flipped image of the dataset, with a black square."""

import numpy as np
import pytest
import torch

from bench.rivals.airbench import AirbenchLoader
from fastcifar.recipes import CIFAR10_MEAN, CIFAR10_STD


@pytest.mark.parametrize(("reach", "side"), [(2, 0), (3, 0), (4, 12)])
def test_images_are_shifted_flipped_and_cut_out(reach, side, synthetic):
    torch.manual_seed(0)
    loader = AirbenchLoader(str(synthetic.path), 16, "cpu", torch.float32, reach, side)
    ids = synthetic.ids("training")
    source = synthetic.images("train")[ids].transpose(0, 3, 1, 2) / np.float32(255)
    mean, std = (np.float32(values)[:, None, None] for values in (CIFAR10_MEAN, CIFAR10_STD))
    padded = np.pad((source - mean) / std, [(0, 0), (0, 0), (reach, reach), (reach, reach)], mode="reflect")
    orders, flips = [], []
    for _ in range(2):
        batches = list(loader)
        assert [len(labels) for _, labels in batches] == [16] * 5
        found = {}
        for images, labels in batches:
            assert images.is_contiguous(memory_format=torch.channels_last)
            for image, label in zip(images.numpy(), labels.tolist(), strict=True):
                black = (image == 0).all(0)
                assert black.sum() == side**2
                here = [
                    (n, flip, top, left)
                    for flip in (False, True)
                    for top in range(2 * reach + 1)
                    for left in range(2 * reach + 1)
                    for n in np.flatnonzero(matches(padded, image, black, flip, top, left))
                ]
                ((n, flip, *_),) = here  # images of noise: only one place fits
                assert synthetic.labels("train")[ids[n]] == label
                found[n] = flip
        orders.append(list(found))
        flips.append([found[n] for n in sorted(found)])
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(80))
    assert orders[0] != orders[1]
    assert flips[0] == [not flip for flip in flips[1]]
    assert 20 < sum(flips[0]) < 60


def matches(padded, image, black, flip, top, left):
    cut = padded[:, :, top : top + 32, left : left + 32]
    cut = cut[..., ::-1] if flip else cut
    return np.abs(np.where(black, 0, cut - image)).max((1, 2, 3)) < 1e-5
