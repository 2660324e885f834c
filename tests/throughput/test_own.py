"""One's own loader as a contestant: how it is called, what is verified, and its errors."""

import sys

import pytest
import torch
from support.loaders import LOADERS
from support.own import write as write

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.recipes import RECIPES
from fastcifar.throughput import heat
from fastcifar.throughput.entrant import Rules
from fastcifar.throughput.matrix import Matrix
from fastcifar.throughput.own import OwnLoader, function_of, kept


@pytest.fixture(autouse=True)
def mine(write, monkeypatch):
    """The module ``mine`` with LOADERS, in the current directory."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    write("mine", LOADERS)


def opened(name, dataset, recipe="none", dtype=torch.float32):
    request = {"augment": RECIPES[recipe], "batch_size": 16, "dtype": dtype}
    return OwnLoader(f"mine.py:{name}", dataset, request)


def checked(name, dataset, recipe="none", **options):
    """Return the verification of the first batch of a loader, or of both where it has two alone."""
    with opened(name, dataset, recipe, **options) as loader:
        batches = list(loader.epoch(0))
        return loader.verified({0: batches}, kept(batches[0]))


@pytest.mark.parametrize("name", ["with_ids", "make", "half", "mixed", "bytes_"])
def test_images_of_the_dataset_are_verified_whatever_their_scale(name, synthetic):
    check = checked(name, synthetic)
    assert check.why_not("") is None
    assert check.images == 16
    assert check.max_abs_dev < (0.05 if name == "half" else 2e-6 if name != "bytes_" else 1e-3)


@pytest.mark.parametrize(
    ("name", "recipe", "reason"),
    [
        ("flipped", "none", "of its pixel values are not those of the dataset, under no mean and std; it augments"),
        ("flipped", "standard", "it augments with random numbers of its own, which cannot be compared"),
        ("make", "standard", "it does not augment its images, as the recipe does; compare it with --recipes none"),
        ("mislabelled", "none", "100.0% of the labels are wrong"),
        ("mislabelled_ids", "standard", "100.0% of the labels are wrong"),
        ("twice", "none", "an epoch has a sample twice"),
        ("strange_ids", "none", r"its ids are not rows of the dataset, in \[0, 100\)"),
        ("large", "none", "its images are 40 x 40, and those of the dataset 32 x 32"),
        ("broken", "none", "pixels are not finite"),
    ],
)
def test_what_is_not_verified_says_why(name, recipe, reason, synthetic):
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(checked(name, synthetic, recipe).why_not(""))


def test_a_generator_is_made_anew_for_each_epoch_and_another_iterable_is_kept(synthetic):
    with opened("with_ids", synthetic) as loader:
        next(loader.epoch(0))  # left early
        for k in (1, 2):
            batches = list(loader.epoch(k))
            assert sorted(torch.cat([batch.ids for batch in batches]).tolist()) == list(range(100))
    with opened("make", synthetic) as loader:
        assert [len(batch.labels) for batch in loader.epoch(0)] == [16] * 6 + [4]
        assert len(list(loader.epoch(1))) == 7


def test_batches_are_as_training_needs_them(synthetic):
    with opened("bytes_", synthetic, dtype=torch.bfloat16) as loader:
        (batch,) = loader.epoch(0)
    assert batch.images.dtype == torch.bfloat16
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert (batch.labels.dtype, batch.ids.dtype, batch.ids.tolist()) == (torch.int64, torch.int64, list(range(16)))
    with opened("mixed", synthetic) as loader:
        assert next(loader.epoch(0)).labels.dim() == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("raises_at_once", "the function raises ValueError: no disk, mine.py line"),
        ("raises_later", "it raises ValueError: no disk, mine.py line"),
        ("raises_in_a_worker", r"it raises KeyError: 'row 7 is missing' \(in a worker process\)"),
        (
            "fills_shared_memory",
            r"unable to allocate shared memory.*start the container with docker run --shm-size=3g$",
        ),
        ("nothing", "it yields no batch; the function must return a loader with at least one batch"),
        ("number", "the function returns 3; return an iterable"),
        ("numbers", r"it yields int, no batch; yield \(images, labels\) or \(images, labels, ids\)"),
        ("dictionary", r"it yields dict of 2, no batch"),
        ("texts", r"it yields no tensors \("),
        ("pairs", r"it yields images \(4, 32, 32, 3\) and labels \(4,\); yield images \(B, 3, S, S\)"),
        ("no_ids", r"its third item is torch.float32 \(4,\), no ids"),
    ],
)
def test_loaders_that_fail_say_why(name, reason, synthetic):
    with pytest.raises(FastcifarError, match=reason), opened(name, synthetic) as loader:
        list(loader.epoch(0))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mine.py", "'mine.py' is not of the form FILE.py:FUNCTION or package.module:FUNCTION"),
        ("mien.py:make", "there is no file mien.py; did you mean 'mine.py'"),
        ("mien:make", "there is no module mien in the current directory"),
        ("mine:mak", "mine has no 'mak'; did you mean 'make'"),
        ("mine:MEAN", "which cannot be called; write a function make"),
        ("mine:two", r"takes \(path, batch_size\); write make\(dataset_path, batch_size, device\) or make\(\)"),
    ],
)
def test_names_of_loaders_that_do_not_exist(name, reason):
    with pytest.raises(UsageError, match=reason):
        function_of(name)
    with pytest.raises(UsageError, match=reason):
        Matrix([], ["none"], [16], ["cpu"], loaders=[name])


@pytest.mark.whole
def test_a_loader_is_timed_beside_ours(synthetic):
    loaders = ["mine.py:with_ids", "mine:make", "mine:flipped", "mine:nothing"]
    matrix = Matrix([], ["none"], [16], ["cpu"], threads=1, loaders=loaders)
    (contestants,) = matrix.heats(synthetic)
    rows = {row["pipeline"]: row for row in heat.hold(contestants, Rules(repeats=1, seconds=0.05, timeout=60))}
    assert list(rows) == ["resident", *loaders]
    for name in loaders[:2]:
        assert rows[name]["verified"]
        assert rows[name]["images_per_s"] > 0
    assert rows["mine:flipped"]["images_per_s"] > 0
    assert not rows["mine:flipped"]["verified"]
    assert "it augments" in rows["mine:flipped"]["reason"]
    assert rows["mine:nothing"]["images_per_s"] is None
    assert "it yields no batch" in rows["mine:nothing"]["reason"]


@pytest.mark.whole
def test_a_loader_in_training_has_a_stall(synthetic):
    matrix = Matrix([], ["standard"], [16], ["cpu"], models=["cnn"], threads=1, loaders=["mine:make"])
    (contestants,) = matrix.heats(synthetic)
    assert [each.pipeline for each in contestants] == ["replay", "resident", "mine:make"]
    assert [each.own for each in contestants] == [False, False, True]
    row = heat.hold(contestants, Rules(repeats=1, seconds=0.05, timeout=60))[2]
    assert row["stall"] < 1
    assert row["images_per_s"] > 0
