"""One copy of a dataset's part for all who use it, as long as anybody does."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from fastcifar.pipelines.resident import store
from fastcifar.pipelines.resident.store import Store

from fastcifar.data.dataset import Dataset
from fastcifar.packs.feed import Feed
from fastcifar.pipeline import open_pipeline

CPU = torch.device("cpu")


@pytest.fixture
def copies(monkeypatch):
    """Which parts were copied."""
    told, samples = [], store.Samples
    monkeypatch.setattr(store, "Samples", lambda dataset, part: told.append(part) or samples(dataset, part))
    return told


@pytest.fixture
def dataset(synthetic):
    """One that no other test uses."""
    return Dataset.open(synthetic.path)


def test_it_holds_the_parts_images_and_labels(dataset):
    held = Store.of(dataset, "train", CPU)
    assert np.array_equal(held.images.numpy(), dataset.images("train"))
    assert held.labels.tolist() == dataset.labels("train").tolist()


def test_six_seeds_and_their_validation_share_one_copy(dataset, copies):
    training, validation = (
        [{"seed": seed, "split": split} for seed in range(6)] for split in ("training", "validation")
    )
    with (
        Feed.open("resident", dataset, training, [0] * 6) as feed,
        Feed.open("resident", dataset, validation, [0] * 6),
    ):
        next(iter(feed.epoch(0)))
        assert copies == ["train"]
        assert Store.is_kept(dataset, "train", CPU)
        assert not Store.is_kept(dataset, "train", torch.device("cuda"))


def test_it_is_freed_with_its_last_user(dataset, copies):
    gc.disable()  # what only a collection of cycles would free stays, on a device too
    try:
        first, second = (open_pipeline("resident", dataset, seed=seed) for seed in range(2))
        for pipeline in (first, second):
            next(iter(pipeline.epoch(0)))
        first.close()
        assert Store.is_kept(dataset, "train", CPU)
        second.close()
        assert not Store.is_kept(dataset, "train", CPU)
    finally:
        gc.enable()
    open_pipeline("resident", dataset).close()
    assert copies == ["train", "train"]


def test_opened_at_the_same_time_it_is_still_one_copy(dataset, copies):
    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(lambda _: Store.of(dataset, "train", CPU), range(32)))
    assert len(set(map(id, held))) == 1
    assert copies == ["train"]


def test_datasets_that_were_opened_apart_have_copies_of_their_own(dataset, synthetic):
    mine, other = (Store.of(each, "train", CPU) for each in (dataset, synthetic))
    assert mine is not other
