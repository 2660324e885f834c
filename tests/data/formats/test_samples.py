"""What is read back from a form is compared image by image."""

import numpy as np
import pytest

from fastcifar.data.convert import convert
from fastcifar.data.formats.samples import Samples
from fastcifar.errors import FastcifarError


@pytest.fixture
def samples(tmp_path) -> Samples:
    return Samples(convert("synthetic:10", tmp_path / "it"), "train")


@pytest.mark.parametrize("fault", ["pixel", "label", "id", "one less", "one more"])
def test_a_difference_read_back_is_an_error(tmp_path, samples, fault):
    rows = np.arange(10)
    images, labels, ids = samples.images.copy(), samples.labels.copy(), rows.copy()
    samples.compare(
        tmp_path / "x.beton", rows, iter([(images[:6], labels[:6], ids[:6]), (images[6:], labels[6:], ids[6:])])
    )
    if fault == "pixel":
        images[7, 31, 31, 2] ^= 1
    if fault == "label":
        labels[7] += 1
    if fault == "id":
        ids[7] = 8
    chosen = {"one less": rows[:-1], "one more": np.append(rows, 0)}.get(fault, rows)
    message = {"one less": "with 9 of its 10 images", "one more": "with more than its 10 images"}.get(
        fault, "with image 7 changed"
    )
    with pytest.raises(FastcifarError, match=rf"x\.beton reads back {message}"):
        samples.compare(tmp_path / "x.beton", rows, iter([(images[chosen], labels[chosen], ids[chosen])]))
