"""The contract, for every pipeline that a file in ``pipelines/`` brings."""

import gc
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from multiprocessing import active_children

import numpy as np
import pytest
import torch
from fastcifar.kernels import reference

from fastcifar.augment import Augment, draw
from fastcifar.data.dataset import Dataset, split_of
from fastcifar.errors import UsageError
from fastcifar.pipeline import Batch, Pipeline, Request, available, open_pipeline, pipeline_names
from fastcifar.recipes import RECIPES

EXACT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
OUR_KERNEL = ("resident", "ffcv")  # equal to the reference bit by bit
ROUNDING = 8e-6  # of pixels in [0, 1], as in test_reference
ready = [name for name, missing in available().items() if missing is None]
every_pipeline = pytest.mark.parametrize("name", ready)
pytestmark = pytest.mark.whole  # each test opens every pipeline


def collected(pipeline: Pipeline, k: int) -> list[Batch]:
    return list(pipeline.epoch(k))


def order(batches: list[Batch]) -> list[int]:
    return torch.cat([batch.ids for batch in batches]).tolist()


def refusal(name: str, dataset: Dataset, recipe: str) -> str | None:
    """Why a pipeline cannot do a recipe, or None."""
    file, _, form = name.partition(":")
    pipeline = import_module(f"fastcifar.pipelines.{file}").PIPELINE
    return pipeline.refuses(Request(dataset, augment=RECIPES[recipe]), form)


def fullest(name: str, dataset: Dataset) -> Augment:
    """The recipe that asks most, of those that a pipeline can do."""
    return next(RECIPES[recipe] for recipe in ("erasing", "basic", "none") if not refusal(name, dataset, recipe))


def off(got: torch.Tensor, expected: torch.Tensor, spec: Augment) -> torch.Tensor:
    """Where two results are apart by more than the rounding of float32 arithmetic and, after it, of their dtype."""
    got, expected, unit = got.float(), expected.float(), torch.finfo(got.dtype).eps
    return (got - expected).abs() > ROUNDING / min(spec.std) + unit * expected.abs()


def soon(condition: Callable[[], bool]) -> bool:
    """Whether something comes true within a second, as threads and processes take a moment to end."""
    end = time.monotonic() + 1
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@every_pipeline
def test_training_epochs_are_permutations_that_differ_and_repeat(name, synthetic):
    wanted = synthetic.ids("training").tolist()
    with open_pipeline(name, synthetic, batch_size=16, seed=1) as one:
        epochs = [order(collected(one, k)) for k in (0, 1, 0, 5)]
    with open_pipeline(name, synthetic, batch_size=16, seed=2) as other:
        different = order(collected(other, 0))
    with open_pipeline(name, synthetic, batch_size=23, seed=1) as same:
        assert order(collected(same, 5)) == epochs[3]  # opened in the middle, at another batch size
    assert all(sorted(ids) == wanted for ids in (*epochs, different))
    assert epochs[0] == epochs[2]
    assert len({tuple(ids) for ids in (*epochs, different)}) == 4


@every_pipeline
@pytest.mark.parametrize("split", ["validation", "labelled", "test"])
def test_evaluation_sees_each_sample_once_in_order(name, split, synthetic):
    with open_pipeline(name, synthetic, split=split, batch_size=16) as pipeline:
        assert order(collected(pipeline, 3)) == synthetic.ids(split).tolist()


@every_pipeline
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_last_batch_is_kept_or_dropped_as_asked(name, drop_last, synthetic):
    with open_pipeline(name, synthetic, batch_size=32, drop_last=drop_last) as pipeline:
        sizes = [len(batch.labels) for batch in pipeline.epoch(0)]
    assert sizes == ([32, 32] if drop_last else [32, 32, 16])
    assert len(pipeline) == len(sizes)


@every_pipeline
@pytest.mark.parametrize("dtype", EXACT_DTYPES)
@pytest.mark.parametrize("recipe", ["none", "erasing", "imagenet256", "airbench96"])
def test_pixels_labels_and_layout(name, dtype, recipe, synthetic):
    if reason := refusal(name, synthetic, recipe):
        pytest.skip(reason)
    spec, labels = RECIPES[recipe], synthetic.labels("train")
    with open_pipeline(name, synthetic, augment=spec, batch_size=32, seed=9, dtype=dtype) as pipeline:
        for batch in pipeline.epoch(2):
            rows = batch.ids.numpy()
            assert (batch.images.dtype, batch.labels.dtype, batch.ids.dtype) == (dtype, torch.int64, torch.int64)
            assert batch.images.is_contiguous(memory_format=torch.channels_last)
            assert batch.labels.tolist() == labels[rows].tolist()
            source = torch.from_numpy(np.array(synthetic.images("train")[rows]))
            expected = reference.apply(source, draw(spec, 9, 2, rows), spec, dtype)
            bound = 0.0 if pipeline.exact else pipeline.deviating
            assert off(batch.images, expected, spec).float().mean() <= bound
            if name in OUR_KERNEL:
                assert torch.equal(batch.images, expected)


@every_pipeline
def test_a_split_redrawn_by_a_seed(name, synthetic):
    with open_pipeline(name, synthetic, split="validation", split_seed=4) as pipeline:
        assert order(collected(pipeline, 0)) == np.flatnonzero(split_of(100, 4)).tolist()


@every_pipeline
def test_batches_kept_by_the_caller_stay_as_they_were(name, synthetic):
    with open_pipeline(name, synthetic, augment=fullest(name, synthetic), batch_size=8) as pipeline:
        views = [batch.images[:, 0] for batch in pipeline.epoch(0)]
        sums = [view.sum().item() for view in views]
        collected(pipeline, 1)
        assert [view.sum().item() for view in views] == sums


@every_pipeline
def test_two_open_at_once_do_not_disturb_each_other(name, synthetic):
    def opened(seed: int) -> Pipeline:
        return open_pipeline(name, synthetic, augment=fullest(name, synthetic), batch_size=8, seed=seed)

    with opened(1) as alone:
        expected = collected(alone, 0)
    with opened(1) as one, opened(2) as two:
        pairs = list(zip(one.epoch(0), two.epoch(0), strict=True))
    assert all(torch.equal(batch.images, want.images) for (batch, _), want in zip(pairs, expected, strict=True))
    assert order([batch for _, batch in pairs]) != order(expected)


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@every_pipeline
def test_leaving_early_and_closing_leak_nothing(name, synthetic):
    def use(epochs: int) -> None:
        with open_pipeline(name, synthetic, augment=fullest(name, synthetic), batch_size=8) as pipeline:
            for k in range(epochs):
                for batch in pipeline.epoch(k):
                    assert len(batch.labels) == 8
                    break

    use(3)
    gc.collect()
    threads, processes = threading.active_count(), len(active_children())
    files, memory = len(os.listdir("/proc/self/fd")), resident_bytes()
    for _ in range(5):
        use(40)
    gc.collect()
    assert soon(lambda: threading.active_count() <= threads and len(active_children()) <= processes)
    assert len(os.listdir("/proc/self/fd")) <= files
    assert resident_bytes() - memory < 20 << 20


@every_pipeline
def test_closed_pipelines_say_so(name, synthetic):
    pipeline = open_pipeline(name, synthetic)
    pipeline.close()
    pipeline.close()
    with pytest.raises(UsageError, match="closed"):
        next(iter(pipeline.epoch(0)))


@pytest.mark.parametrize("recipe", RECIPES)
def test_nothing_is_refused_by_the_plain_pipelines(recipe, synthetic):
    for name in ("resident", "torchvision", "ffcv"):
        assert name not in ready or refusal(name, synthetic, recipe) is None


def test_every_file_is_a_pipeline_and_the_unready_say_why():
    assert "resident" in ready
    assert pipeline_names() == sorted(available())
    assert all(reason for reason in available().values() if reason is not None)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"batch_size": 0}, "batch size 0"),
        ({"dtype": torch.float64}, "float64"),
        ({"seed": -1}, "seed -1"),
        ({"split": "everything"}, "everything"),
    ],
)
def test_requests_that_cannot_be_met(wrong, named, synthetic):
    with pytest.raises(UsageError, match=named):
        open_pipeline("resident", synthetic, **wrong)


def test_unknown_pipelines_are_refused_with_the_known(synthetic):
    with pytest.raises(UsageError, match=r"'tfdata'.*resident"):
        open_pipeline("tfdata", synthetic)


def test_order_depends_on_the_id_alone(synthetic):
    """Leaving the validation images out does not change the order of the others."""
    everyone = Request(synthetic, "labelled", seed=3, shuffle=True).order(1).tolist()
    training = Request(synthetic, "training", seed=3).order(1).tolist()
    assert training == [row for row in everyone if row in set(training)]


def test_still_keeps_the_preprocessing_only():
    spec = replace(RECIPES["imagenet256"], flip=0.5, erase=0.5)
    assert spec.still() == RECIPES["imagenet256"]
    assert RECIPES["erasing"].still() == Augment()
    assert not spec.still().random
    assert spec.random


def test_dataset_without_test_part(tmp_path, synthetic):
    images_only = Dataset(synthetic.path, {**synthetic.manifest, "counts": {"train": 100}})
    with pytest.raises(UsageError, match="no test images"):
        open_pipeline("resident", images_only, split="test")
