"""Recipes by name and as text."""

import pytest

from fastcifar.augment import Augment
from fastcifar.errors import UsageError
from fastcifar.recipes import CIFAR10_MEAN, CIFAR10_STD, RECIPES, canonical, recipe, recipes_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flip=0.5,crop=4,erase=0.25", Augment(flip=0.5, crop=4, erase=0.25)),
        ("standard, cutout=8", Augment(flip=0.5, crop=4, cutout=8)),
        ("none,flip=alternating,crop=2,crop_fill=zeros", Augment(flip="alternating", crop=2, crop_fill="zeros")),
        ("cifar10,crop=4", Augment(crop=4, mean=CIFAR10_MEAN, std=CIFAR10_STD)),
        ("mean=0.5:0.4:0.3,size=64:32", Augment(mean=(0.5, 0.4, 0.3), size=(64, 32))),
        ("half256-224", Augment(mean=(0.5,) * 3, std=(0.5,) * 3, size=(256, 224))),
    ],
)
def test_a_text_is_an_augmentation(text, expected):
    assert recipe(text) == expected


@pytest.mark.parametrize("name", RECIPES)
def test_every_name_is_its_recipe(name):
    assert recipe(name) is not None
    assert recipe(name) == RECIPES[name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("standrad", "recipe 'standrad' does not exist; did you mean 'standard'\\? There are none, basic"),
        ("qqq", "recipe 'qqq' does not exist; there are none, basic"),
        ("basic,crob=4", "augmentation 'crob' does not exist; did you mean 'crop'"),
        ("basic,4", "'4' is not of the form field=value"),
        ("flip=often", "flip 'often' is not a probability or alternating"),
        ("crop=4.5", "crop '4.5' is not a whole number"),
        ("size=256", "size"),
        ("mean=0.5", "mean"),
        ("crop=99", "crop 99 is outside"),
        ("crop=1_0", "crop '1_0' is not a whole number"),
        ("flip=0.5,flip=1", "has flip twice"),
        ("standard,,cutout=8", "'' is not of the form field=value"),
        ("", "recipe '' does not exist"),
    ],
)
def test_what_no_recipe_can_be_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        recipe(text)


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ("standard", "standard"),
        ("half256-224", "half256-224"),
        (" standard ,  cutout=8", "standard,cutout=8"),
        ("cutout=8, crop=4,flip=0.50", "flip=0.5,crop=4,cutout=8"),
        ("none,crop=4", "crop=4"),
        ("flip=alternating,crop_fill=zeros", "flip=alternating,crop_fill=zeros"),
        ("std=0.25:0.250:0.25,mean=0.5:0.5:0.5", "mean=0.5:0.5:0.5,std=0.25:0.25:0.25"),
        ("erase_area=0.02:0.123456789", "erase_area=0.02:0.123456789"),
    ],
)
def test_texts_of_one_recipe_have_one_text(text, one):
    assert canonical(text) == one
    assert recipe(canonical(text)) == recipe(text)


def test_a_list_of_recipes_keeps_changes_with_their_recipe():
    assert recipes_of("basic, erasing") == ["basic", "erasing"]
    assert recipes_of("basic,crop=4,flip=0.1,none,") == ["basic,crop=4,flip=0.1", "none"]
    assert recipes_of("flip=0.5,crop=4") == ["flip=0.5,crop=4"]
