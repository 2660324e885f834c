"""Recipes: the Augment of a name such as ``basic``, or of a text such as ``basic,crop=4,erase=0.25``."""

import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from fastcifar.augment import ALTERNATING, Augment
from fastcifar.errors import UsageError, unknown

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_BASIC = Augment(flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1, rotate=10.0)
_AIRBENCH = Augment(flip=ALTERNATING, mean=CIFAR10_MEAN, std=CIFAR10_STD)

RECIPES: dict[str, Augment] = {
    "none": Augment(),
    "basic": _BASIC,
    "erasing": replace(_BASIC, erase=0.5),
    "standard": Augment(crop=4, flip=0.5),
    "airbench94": replace(_AIRBENCH, crop=2),
    "airbench96": replace(_AIRBENCH, crop=4, cutout=12),
    "imagenet256": Augment(size=(256, 224), mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "imagenet384": Augment(size=(384, 384), mean=IMAGENET_MEAN, std=IMAGENET_STD),
}
"""The recipes by name.

none, basic and erasing are the report's, for 32 x 32 images. standard is the usual augmentation of CIFAR images.
airbench94 and airbench96 are the recipes of https://github.com/KellerJordan/cifar10-airbench; its own cutout never
crosses the border. imagenet256 and imagenet384 are for the networks of experiment 4.
"""

NORMALISATIONS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD), "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "cifar10": (CIFAR10_MEAN, CIFAR10_STD),
}  # fmt: skip
"""The mean and std for each prefix of a recipe of another network. The recipe imagenet232-224 enlarges to 232 pixels,
crops to 224 and normalises; the recipe imagenet only normalises."""
_PREPROCESSING = re.compile(rf"({'|'.join(NORMALISATIONS)})(?:(\d+)-(\d+))?")


def recipe(text: str) -> Augment:
    """Return the Augment of a recipe.

    text: the name of one of RECIPES, a preprocessing recipe, or comma-separated changes to one. A change is field=value
    with a field of Augment: ``flip=0.5,crop=4``, ``basic,erase=0.25``, ``cifar10,crop=4,flip=alternating``. A colon
    separates the values of a field that has several: ``mean=0.5:0.5:0.5``. Without a name, the changes are to none.
    Raises UsageError for an unknown name or field, and for a value that a field does not take.
    """
    name, changes = _parts(text)
    return replace(_named(name), **changes)


def canonical(text: str) -> str:
    """Return the one text for all texts of a recipe that have its name and its changes.

    Changes are in the order of Augment's fields, without spaces, so that a run has one identity. A name alone stays as
    it is. Raises UsageError as `recipe` does.
    """
    name, changes = _parts(text)
    fields_of = [f"{field.name}={_text(changes[field.name])}" for field in fields(Augment) if field.name in changes]
    recipe(text)
    return ",".join([name] * (name != "none" or not changes) + fields_of)


def recipes_of(text: str) -> list[str]:
    """Return the recipes of a comma-separated list. A part ``field=value`` belongs to the recipe before it."""
    recipes: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        if recipes and "=" in part:
            recipes[-1] += f",{part}"
        elif part:
            recipes.append(part)
    return recipes


def _named(name: str) -> Augment:
    if name in RECIPES:
        return RECIPES[name]
    parts = _PREPROCESSING.fullmatch(name)
    if parts is None:
        raise unknown("recipe", name, RECIPES)
    mean, std = NORMALISATIONS[parts[1]]
    return Augment(size=(int(parts[2]), int(parts[3])) if parts[2] else None, mean=mean, std=std)


def _parts(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name in a recipe's text, and its changes by field."""
    name, *rest = [part.strip() for part in text.split(",")]
    if "=" in name:
        name, rest = "none", [name, *rest]
    changes: dict[str, Any] = {}
    for change in rest:
        field, value = _change(change, text)
        if field in changes:
            raise UsageError(f"recipe {text!r} has {field} twice; give each field one value")
        changes[field] = value
    return name, changes


def _text(value: Any) -> str:
    """Return a field's value as `_READ` reads it."""
    if isinstance(value, tuple):
        return ":".join(map(_text, value))
    return str(value).removesuffix(".0")


def _numbers(one: type) -> Callable[[str], tuple[Any, ...]]:
    return lambda text: tuple(one(part) for part in text.split(":"))


def _flip(text: str) -> float | str:
    return text if text == ALTERNATING else float(text)


_READ: dict[str, tuple[Callable[[str], Any], str]] = {
    "flip": (_flip, f"a probability or {ALTERNATING}"),
    "crop": (int, "a whole number of pixels"),
    "cutout": (int, "a whole number of pixels"),
    "crop_fill": (str, "reflected or zeros"),
    "size": (_numbers(int), "two numbers of pixels, such as 256:224"),
    "erase_area": (_numbers(float), "two numbers, such as 0.02:0.33"),
    "erase_aspect": (_numbers(float), "two numbers, such as 0.3:3.3"),
    "mean": (_numbers(float), "three numbers, such as 0.5:0.5:0.5"),
    "std": (_numbers(float), "three numbers, such as 0.25:0.25:0.25"),
}
"""The function that reads the value of a field, and what the value must be. Other fields are numbers."""


def _change(change: str, text: str) -> tuple[str, Any]:
    field, equals, value = (part.strip() for part in change.partition("="))
    if not equals:
        raise UsageError(f"recipe {text!r}: {change!r} is not of the form field=value, as in basic,crop=4")
    known = [field.name for field in fields(Augment)]
    if field not in known:
        raise unknown("augmentation", field, known)
    read, wanted = _READ.get(field, (float, "a number"))
    try:
        if "_" in value or not value.isascii():  # Python would read 1_0 as 10
            raise ValueError(value)
        return field, read(value)
    except ValueError as error:
        raise UsageError(f"recipe {text!r}: {field} {value!r} is not {wanted}") from error
