"""Tables of networks with ImageNet weights on CIFAR-10: by image size, by way to tune, and the photographs."""

from typing import Any

from fastcifar.diagnose.statistics import QUANTILE
from fastcifar.recipes import recipe
from fastcifar.report.statistics import of_mean
from fastcifar.show.markdown import Rows, table, under
from fastcifar.show.text import counted

WORDS = {"head": "last layer", "full": "all weights", "as-run": "last layer, BatchNorm in training mode",
         "scratch": "all weights, from random ones"}  # fmt: skip


def sizes(found: Rows) -> str:
    """Return the accuracy of heads on all images, by network and image size, and the speed of the features."""
    speeds = {(row["network"], row["side"]): row for row in found if row["part"] == "speed" and row["way"] == "head"}
    body = []
    for row in (row for row in found if row["part"] == "size"):
        speed = speeds.get((row["network"], row["side"]))
        rate = f"{speed['images_per_s']:,.0f}" if speed else ""
        epochs = ", ".join(map(str, row["epochs"]))
        body.append([row["network"], str(row["side"]), accuracy(row), epochs, rate])
    header = ["network", "side, pixels", "accuracy, %", "epochs", "images/s"]
    return under(table(header, body), [row for row in found if row["part"] == "size"])


def ways(found: Rows) -> str:
    """Return the accuracy of each way to tune on some of the images, with the cost of an image."""
    some = [row for row in found if row["part"] == "way"]
    speeds = {(row["network"], row["way"]): row for row in found if row["part"] == "speed" and row["way"] != "head"}
    body = []
    for row in some:
        speed = speeds.get((row["network"], row["way"]))
        rate = f"{speed['images_per_s']:,.1f}" if speed else ""
        lr = f"{row['settings']['lr']:g}"
        body.append([row["network"], WORDS[row["way"]], lr, str(row["epochs"][0]), accuracy(row), rate])
    images = some[0]["images"]
    text = (
        f"{images['training']:,} training and {images['validation']:,} validation images, as many of each class, "
        f"{some[0]['side']} × {some[0]['side']} pixels, {counted(len(some[0]['seeds']), 'seed')}.\n\n"
    )
    header = ["network", "trained", "lr", "epochs", "accuracy, %", "training, images/s"]
    return under(text + table(header, body), some)


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
    return f"{numbers['ratio']:.2g}× [{low:.2g}, {high:.2g}]"
