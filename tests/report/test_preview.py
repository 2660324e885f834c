"""Previews: the pixels shown are the reference's, and what cannot be drawn is refused."""

import numpy as np
import pytest
import torch
from fastcifar.kernels import reference
from PIL import Image

from fastcifar.augment import draw
from fastcifar.errors import UsageError
from fastcifar.recipes import RECIPES
from fastcifar.report.preview import BACKGROUND, GAP, preview


@pytest.mark.parametrize(
    ("recipe", "side", "scale"), [("none", 32, 3), ("erasing", 32, 3), ("imagenet256", 224, 1), ("imagenet384", 384, 1)]
)
def test_a_preview_shows_the_reference_s_pixels(synthetic, tmp_path, recipe, side, scale):
    augment, rows, columns, seed = RECIPES[recipe], 3, 2, 11
    preview(synthetic, augment, tmp_path / "made" / "preview.png", rows, columns, seed)
    with Image.open(tmp_path / "made" / "preview.png") as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        sheet = np.array(image)
    pitch = side * scale + GAP
    assert sheet.shape == (rows * pitch + GAP, (columns + 1) * pitch + GAP, 3)
    shown = np.zeros(sheet.shape[:2], bool)

    training = synthetic.ids("training")
    ids = training[[0, 39, 79]]  # the first, the middle (rounded down) and the last of 80
    images = torch.from_numpy(synthetic.images("train")[ids])
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (augment.mean, augment.std))
    for column in range(columns + 1):
        spec = augment if column else augment.still()
        pixels = reference.apply(images, draw(spec, seed, column, ids), spec).numpy()
        for row in range(rows):
            expected = np.clip((pixels[row] * std + mean) * 255, 0, 255).transpose(1, 2, 0)
            top, left = GAP + row * pitch, GAP + column * pitch
            cell = sheet[top : top + side * scale, left : left + side * scale]
            assert np.array_equal(cell, cell[::scale, ::scale].repeat(scale, 0).repeat(scale, 1))
            assert np.abs(cell[::scale, ::scale] - expected).max() <= 0.501
            shown[top : top + side * scale, left : left + side * scale] = True
            if recipe == "none" or (column == 0 and side == 32):
                assert np.array_equal(cell[::scale, ::scale], synthetic.images("train")[ids[row]])
    assert (sheet[~shown] == BACKGROUND).all()


@pytest.mark.parametrize(
    ("name", "rows", "columns", "message"),
    [
        ("a.png", 81, 1, "81 rows of 1 draws: rows go from 1 to 80, draws from 1 to 64"),
        ("a.png", 0, 1, "rows go from 1 to 80"),
        ("a.png", 1, 0, "draws from 1 to 64"),
        ("a.png", 1, 65, "draws from 1 to 64"),
        ("a.jpg", 1, 1, "a preview is a PNG file; call it a.jpg.png, for example"),
    ],
)
def test_previews_that_cannot_be_are_refused(synthetic, tmp_path, name, rows, columns, message):
    with pytest.raises(UsageError, match=message):
        preview(synthetic, RECIPES["none"], tmp_path / name, rows, columns)
    assert not any(tmp_path.iterdir())
