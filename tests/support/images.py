"""Images to augment, and specs drawn by hypothesis."""

import numpy as np
import torch
from hypothesis import strategies as st

from fastcifar.augment import Augment

shares = st.floats(0, 1)


def images(n: int, seed: int = 0) -> torch.Tensor:
    """Return n images: half are noise, half smooth and saturated with areas of equal, grey, black and white pixels."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    coarse = rng.choice(np.array([0, 255, 17, 128, 129], np.uint8), (n, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    return torch.from_numpy(np.where(np.arange(n)[:, None, None, None] % 2, coarse, noise))


specs = st.builds(
    Augment,
    flip=st.one_of(shares, st.just("alternating")),
    brightness=st.floats(0, 3),
    contrast=shares,
    saturation=shares,
    hue=st.floats(0, 0.5),
    rotate=st.floats(0, 180),
    erase=shares,
    erase_area=st.tuples(st.floats(1e-6, 0.5), st.floats(0.5, 1)),
    erase_aspect=st.tuples(st.floats(0.01, 1), st.floats(1, 100)),
    crop=st.integers(0, 31),
    crop_fill=st.sampled_from(["reflected", "zeros"]),
    cutout=st.integers(0, 32),
    size=st.sampled_from([None, (32, 32), (256, 224), (384, 384)]),
)
