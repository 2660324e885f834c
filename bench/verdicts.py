"""Measure how often the report's verdicts are wrong where the truth is known.

    python bench/verdicts.py

Accuracies are drawn around a known mean, and a claim about them is judged as the report's claims are: that they are
70 % within 2 points, that one configuration is better than another, or that each seed shows a shape.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from numpy.typing import NDArray

from bench.lib import rows
from fastcifar.report.rules import ABOUT
from fastcifar.report.statistics import of_mean
from fastcifar.report.verdict import VERDICTS, of_direction, of_shape, of_value
from fastcifar.system.measure import environment

TARGET = 0.70
SPREADS = (0.003, 0.01, 0.02, 0.05)
SEEDS = (2, 3, 5, 10)

Judge = Callable[[NDArray[np.float64]], str]


def value(offset: float) -> Judge:
    """Return the judge of the claim of a value whose true distance from it is ``offset``."""
    return lambda drawn: of_value(of_mean((TARGET + offset + drawn).tolist()), TARGET, ABOUT)[0]


def direction(offset: float) -> Judge:
    """Return the judge of the claim that a difference is above 0, which truly is ``offset``."""
    return lambda drawn: of_direction(of_mean((offset + drawn).tolist()))[0]


TRUTHS: dict[str, tuple[bool, Judge]] = {
    "value, exactly true": (True, value(0.0)),
    "value, true by 1 point": (True, value(0.01)),
    "value, false at the margin": (False, value(ABOUT)),
    "value, false by 1 point": (False, value(ABOUT + 0.01)),
    "direction, true by 2 points": (True, direction(0.02)),
    "direction, no difference": (False, direction(0.0)),
    "direction, false by 1 point": (False, direction(-0.01)),
    "shape, shown by every second seed": (False, lambda drawn: of_shape((drawn > 0).tolist())[0]),
}
"""What is claimed and true, whether the claim is true, and the judge."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=2000, help="draws of each truth, spread and number of seeds")
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "verdicts.jsonl")
    options = parser.parse_args()
    found, dice, around = [], np.random.default_rng(2026), environment()
    for truth, (is_true, judge) in TRUTHS.items():
        for seeds in SEEDS:
            for spread in SPREADS:
                given = [judge(dice.normal(0, spread, seeds)) for _ in range(options.tries)]
                shares = {kind: given.count(kind) / len(given) for kind in VERDICTS[:3]}
                row = {"truth": truth, "is_true": is_true, "seeds": seeds, "spread": spread, "tries": options.tries}
                found.append({**row, **shares, "environment": around})
    rows.write(found, options.out)
    wrong = max(row["confirmed"] for row in found if not row["is_true"] and not row["truth"].startswith("shape"))
    print(f"wrongly confirmed: {100 * wrong:.1f} % at most, of values and directions")


if __name__ == "__main__":
    main()
