"""The audit: what a protocol changes, and what augmentation does on clean and on augmented images."""

import numpy as np
import pytest
from support.written_runs import rising, spec_of, write_run

from fastcifar.experiments import PROTOCOLS
from fastcifar.report.audit import compared, definitions, on_two_kinds_of_images
from fastcifar.report.collection import collect


def hits(share, images=1000):
    return np.arange(images) % 1000 < 1000 * share


def test_protocols_are_described_and_differ():
    found = dict(definitions())
    assert all(list(by) == list(PROTOCOLS) for by in found.values())
    assert found["validation images"]["as-run"] != found["validation images"]["sound"]
    assert found["colour jitter"]["as-run"] == "changes nothing"
    assert "epoch 32" in found["stopping"]["as-run"]


def test_the_same_configuration_under_two_protocols(tmp_path):
    for seed in range(2):
        write_run(tmp_path, spec_of(seed=seed), rising(0.70 + seed / 100))
        write_run(tmp_path, spec_of(protocol="as-run", seed=seed), rising(0.65 + seed / 100))
    write_run(tmp_path, spec_of(recipe="none"), rising(0.5))
    (found,) = compared(collect(tmp_path))
    assert found.protocols == ("sound", "as-run")
    assert found.accuracies == pytest.approx((0.705, 0.655))
    assert found.change.mean == pytest.approx(-0.05)
    assert len(found.runs) == 4


def test_erasing_helps_on_clean_images_and_harms_on_erased_ones(tmp_path):
    kinds = {"none": (0.60, 0.60), "basic": (0.66, 0.65), "erasing": (0.68, 0.61)}
    for recipe, (clean, augmented) in kinds.items():
        for seed in range(2):
            write_run(
                tmp_path, spec_of(protocol="as-run", recipe=recipe, seed=seed), rising(0.6), right=hits(clean),
                augmented=hits(augmented),
            )  # fmt: skip
    rows, steps = on_two_kinds_of_images(collect(tmp_path))
    assert {row.recipe: (row.clean, row.augmented) for row in rows} == {
        recipe: (pytest.approx((clean, 0.0)), pytest.approx((augmented, 0.0)))
        for recipe, (clean, augmented) in kinds.items()
    }
    by_step = {step.what: step for step in steps}
    assert list(by_step) == ["none → basic", "none → erasing", "basic → erasing"]
    step = by_step["basic → erasing"]
    assert step.clean.mean == pytest.approx(0.02)
    assert step.clean.above
    assert step.augmented.mean == pytest.approx(-0.04)
    assert step.augmented.below


def test_without_predictions_there_is_nothing_to_say(tmp_path):
    write_run(tmp_path, spec_of(protocol="as-run"), rising(0.6))
    assert on_two_kinds_of_images(collect(tmp_path)) == ([], [])
