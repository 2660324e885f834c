"""Tables of networks with ImageNet weights on CIFAR-10: by image size, by way to tune, and the photographs."""

from typing import Any

from fastcifar.diagnose.statistics import QUANTILE
from fastcifar.diagnose.verdict import short
from fastcifar.recipes import recipe
from fastcifar.report.statistics import of_mean
from fastcifar.show.markdown import Rows, table, under
from fastcifar.show.text import counted

WORDS = {"head": "last layer", "full": "all weights", "as-run": "last layer, BatchNorm in training mode",
         "scratch": "all weights, from random ones"}  # fmt: skip


def pretrained(found: Rows) -> str:
    """Return the accuracy of heads on all images by image size, and that of each way to tune on some of the images."""
    some = next(row for row in found if row["part"] == "way")
    images = some["images"]
    parts = {
        "The last layer alone, on all images:": sizes(found),
        f"Each way to tune, on {images['training']:,} training and {images['validation']:,} validation images, as many "
        f"of each class, {some['side']} × {some['side']} pixels, {counted(len(some['seeds']), 'seed')}:": ways(found),
    }
    return under("\n".join(f"{caption}\n\n{lines}" for caption, lines in parts.items()), found)


def sizes(found: Rows) -> str:
    """Return the table by network and image size, with the speed of the features."""
    body = []
    for row in (row for row in found if row["part"] == "size"):
        epochs = ", ".join(map(str, row["epochs"]))
        body.append([row["network"], str(row["side"]), accuracy(row), epochs, _speed(found, row)])
    return table(["network", "side, pixels", "accuracy, %", "epochs", "features, images/s"], body)


def ways(found: Rows) -> str:
    """Return the table by network and way to tune, with the speed of training."""
    body = []
    for row in (row for row in found if row["part"] == "way"):
        lr = f"{row['settings']['lr']:g}"
        speed = _speed(found, row) if row["way"] != "head" else ""  # a head trains on features
        body.append([row["network"], WORDS[row["way"]], lr, str(row["epochs"][0]), accuracy(row), speed])
    return table(["network", "trained", "lr", "epochs", "accuracy, %", "training, images/s"], body)


def _speed(found: Rows, like: dict[str, Any]) -> str:
    """Return the images/s that were measured by themselves for a row's network, image size and way."""
    key = {"part": "speed", **{name: like[name] for name in ("network", "side", "way")}}
    speeds = [row["images_per_s"] for row in found if key.items() <= row.items()]
    return f"{speeds[0]:,.0f}" if speeds else ""


def photographs(found: Rows) -> str:
    """Return the most probable class of each photograph under each normalisation."""
    names = ("photograph", "normalisation", "interpolation", "class")
    body = [[*(row[name] for name in names), f"{row['probability']:.2f}"] for row in found]
    return under(table([*names, "probability"], body, numbers=False), found)


def accuracy(row: dict[str, Any]) -> str:
    """Return the mean accuracy of a row's seeds in percent, with half of its 95 % interval where there are several."""
    over = of_mean(row["val_accuracy"])
    half = "" if over.high is None else f" ± {100 * (over.high - over.mean):.2f}"
    return f"{100 * over.mean:.2f}{half}"


def suspects(found: Rows) -> str:
    """Return the verdict on each suspect of an unstable validation loss, with its number, for each diagnosis."""
    names = ("drift", "statistics", "split", "weights")
    body = []
    for row in found:
        spec, by_name = row["spec"], {each["suspect"]: each for each in row["suspects"]}
        side = recipe(spec["recipe"]).out_size
        images = f"{row['images']['training']:,}"
        body.append(
            [f"{side}", str(spec["batch_size"]), f"{spec['lr']:g}", images, str(spec["epochs"])]
            + [f"{by_name[name]['verdict']}: {_number(by_name[name])}" for name in names]
        )
    header = ["side", "batch", "lr", "images", "epochs", *names]
    return under(table(header, body), found)


def _number(suspect: dict[str, Any]) -> str:
    """Return the number that a verdict rests on, with its 95 % interval."""
    numbers = suspect["numbers"]
    if suspect["suspect"] == "statistics":
        worst = max(numbers["costs"], key=lambda cost: float(cost["accuracy"]))
        half = QUANTILE * worst["accuracy_error"]
        return f"{100 * worst['accuracy']:.1f} ± {100 * half:.1f} points"
    low, high = numbers["ratio_interval"]
    return f"{short(numbers['ratio'])}× [{short(low)}, {short(high)}]"
