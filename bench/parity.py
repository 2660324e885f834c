"""Measure how far the reference is from torchvision, and the CPU kernel from the reference, over many random draws.

    python bench/parity.py --draws 10000

Ties of the rotation are counted separately. A tie is a pixel whose source position lies within 4e-6 pixels of the
boundary between two source pixels, where torchvision's float32 coordinates may choose the other one.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from fastcifar.kernels import cpu, reference, torchvision

from bench.lib import rows
from fastcifar.augment import IMAGE_SIZE, draw
from fastcifar.recipes import RECIPES
from fastcifar.show.progress import track
from fastcifar.show.text import parts
from fastcifar.system.measure import environment

CHUNK = 100


def compare(recipe: str, draws_wanted: int, seed: int) -> dict[str, object]:
    """Return the largest deviations over ``draws_wanted`` draws of a recipe, on images of uniform noise."""
    spec = RECIPES[recipe]
    rng = np.random.default_rng(seed)
    worst = {"reference_torchvision": 0.0, "cpu_reference_float32": 0.0, "cpu_reference_bfloat16": 0.0}
    ties = apart_at_ties = 0
    for start in track(range(0, draws_wanted, CHUNK), recipe):
        ids = np.arange(start, min(start + CHUNK, draws_wanted))
        images = torch.from_numpy(rng.integers(0, 256, (len(ids), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8))
        draws = draw(spec, seed, 0, ids)
        expected = reference.apply(images, draws, spec)
        apart = (expected - torchvision.apply(images, draws, spec)).abs()
        if spec.rotate:
            tied = torch.from_numpy(torchvision.rotation_ties(draws))[:, None].expand_as(apart)
            ties += int(tied[:, 0].sum())
            apart_at_ties += int((apart.amax(1) > 1e-5)[tied[:, 0]].sum())
            apart[tied] = 0
        deviations = {
            "reference_torchvision": apart.max(),
            "cpu_reference_float32": (cpu.apply(images, draws, spec) - expected).abs().max(),
            "cpu_reference_bfloat16": (
                cpu.apply(images, draws, spec, torch.bfloat16).float() - expected.bfloat16().float()
            ).abs().max(),
        }  # fmt: skip
        worst = {key: max(worst[key], float(value)) for key, value in deviations.items()}
    pixels = draws_wanted * spec.out_size**2
    return {"recipe": recipe, "draws": draws_wanted, "pixels": pixels, **worst, "ties": ties, "apart": apart_at_ties}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "parity-cpu.jsonl")
    options = parser.parse_args()
    collected = []
    for recipe in parts(options.recipes):
        collected.append(compare(recipe, options.draws, options.seed))
        print(collected[-1], flush=True)
    around = environment()
    rows.write(({**row, "environment": around} for row in collected), options.out)


if __name__ == "__main__":
    main()
