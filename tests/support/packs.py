"""Specs for packs, and the tolerance between a pack's losses and those of runs alone."""

import numpy as np

from support.runs import spec_of

FIRST, TWENTY = 1e-5, 1e-2  # how far float32 losses may be from a solo run's, relatively


def some_specs(dataset, model, number, count=4):
    """Return specs that differ in every field in which runs of a pack may differ. number: seed of the random choice."""
    dice = np.random.default_rng(number)
    protocol = str(dice.choice(["sound", "as-run"]))
    return [
        spec_of(
            dataset,
            model=model,
            protocol=protocol,
            recipe=str(dice.choice(["none", "basic", "erasing"])),
            seed=int(dice.integers(3)),
            lr=float(10 ** dice.uniform(-5, -2.5)),
            l2=float(dice.choice([0.0, 0.01])),
            dropout=float(dice.choice([0.0, 0.3, 0.5])),
        )
        for _ in range(count)
    ]
