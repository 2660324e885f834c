"""The loader: its arguments, epochs, state, shares, views and transforms, over every pipeline."""

import gc
import json
import pickle
import random
import threading
import weakref
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fastcifar.kernels import reference
from torch import nn
from torchvision.transforms import v2

import fastcifar
from fastcifar.augment import Augment, draw
from fastcifar.errors import UsageError
from fastcifar.loader import Loader
from fastcifar.loader.arguments import view_seed
from fastcifar.pipeline import available, open_pipeline
from fastcifar.recipes import RECIPES

ready = [name for name, missing in available().items() if missing is None and name != "ffcv:stock"]
every_pipeline = pytest.mark.parametrize("name", ready)


def loader(dataset, **more) -> Loader:
    return Loader(
        dataset, **{"augment": "standard", "batch_size": 16, "device": "cpu", "seed": 3, "with_ids": True} | more
    )


def ids_of(batches) -> list[list[int]]:
    return [ids.tolist() for _, _, ids in batches]


def same(one, two) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a, b) for left, right in zip(one, two, strict=True) for a, b in zip(left, right, strict=True)
    )


def test_the_readme_s_lines(synthetic):
    made = fastcifar.Loader(synthetic.path, "training", augment="standard", batch_size=32, dtype="bfloat16")
    for _ in range(2):
        sizes = []
        for images, labels in made:
            assert (images.dtype, labels.dtype) == (torch.bfloat16, torch.int64)
            assert images.is_contiguous(memory_format=torch.channels_last)
            sizes.append(len(labels))
        assert sizes == [32, 32, 16]
    assert len(made) == 3
    assert (made.batch_size, made.drop_last, made.dataset.sha256) == (32, False, synthetic.sha256)


@every_pipeline
@pytest.mark.whole
def test_batches_are_the_pipeline_s(name, synthetic):
    with (
        loader(synthetic, pipeline=name) as made,
        open_pipeline(name, synthetic, augment=RECIPES["standard"], batch_size=16, seed=3) as pipeline,
    ):
        for k in range(2):
            assert made.epoch == k
            assert same(list(made), list(pipeline.epoch(k)))


@every_pipeline
@pytest.mark.whole
def test_it_goes_on_in_the_middle_of_an_epoch_and_makes_nothing_twice(name, synthetic, monkeypatch):
    with loader(synthetic, pipeline=name) as whole:
        whole.set_epoch(1)
        wanted = [(images.clone(), labels, ids) for images, labels, ids in whole]
        following = list(whole)
    with loader(synthetic, pipeline=name) as first:
        list(first)
        for _, _ in zip(first, range(2), strict=False):  # three batches are taken, and two are used
            pass
        state = first.state_dict()
    assert (state["epoch"], state["batch"]) == (1, 3)
    with loader(synthetic, pipeline=name) as second:
        second.load_state_dict(pickle.loads(pickle.dumps(state)))
        iter(second)  # as Lightning does, only to look
        second.set_epoch(1)  # as many loops do, also after a state was loaded
        made = counted(name, monkeypatch)
        assert same(list(second), wanted[3:])
        assert 32 <= sum(made) <= 33  # of 80; one image is made when some pipelines are opened
        assert same(list(second), following)


def counted(name, monkeypatch) -> list[int]:
    """The numbers of images that a pipeline begins to make from now on."""
    made: list[int] = []
    file = name.partition(":")[0]
    if file == "torchvision":  # its images are made in other processes, from the ids of this iterator
        order = import_module("fastcifar.pipelines.torchvision")._Order
        plain = order.__iter__

        def noted(self):
            for epoch, ids in plain(self):
                made.append(len(ids))
                yield epoch, ids

        monkeypatch.setattr(order, "__iter__", noted)
        return made
    maker = {"resident": "resident.host", "ffcv": "ffcv.reading", "dali": "dali.operators"}[file]
    kernel = import_module("fastcifar.kernels.cpu")

    def draw(spec, seed, epoch, ids):
        made.append(len(ids))
        return kernel.draw(spec, seed, epoch, ids)

    monkeypatch.setattr(f"fastcifar.pipelines.{maker}.cpu", SimpleNamespace(draw=draw, apply_rows=kernel.apply_rows))
    return made


def test_an_epoch_begins_with_the_first_next(synthetic):
    made = loader(synthetic)
    looked_at = iter(made)
    assert made._opened is None
    assert made.epoch == 0
    first = next(iter(made))
    assert torch.equal(first[2], next(iter(loader(synthetic)))[2])
    used = iter(made)
    next(used)
    next(looked_at)  # begins another epoch
    with pytest.raises(UsageError, match="this epoch is over"):
        next(used)


def test_after_a_break_comes_the_next_epoch(synthetic):
    made = loader(synthetic)
    for _ in made:
        break
    assert (made.epoch, made.state_dict()["batch"]) == (0, 1)
    second = ids_of(made)
    assert made.epoch == 2
    made.set_epoch(1)
    assert ids_of(made) == second
    for _ in made:
        break
    made.set_epoch(2)  # begins the epoch that was left again, from its first batch
    assert len(ids_of(made)) == 5


def test_after_a_state_of_a_whole_epoch_comes_the_next_one(synthetic):
    made = loader(synthetic)
    iterator = iter(made)
    for _ in range(len(made)):
        next(iterator)
    state = made.state_dict()
    assert list(iterator) == []
    following = list(made)
    again = loader(synthetic)
    again.load_state_dict(state)
    assert again.epoch == 1
    assert same(list(again), following)
    again.load_state_dict(state)
    again.set_epoch(0)  # a loop that counts epochs itself finds the rest of epoch 0, which is nothing
    assert list(again) == []
    assert same(list(again), following)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"batch_size": 8}, "batch_size"), ({"seed": 4}, "seed"), ({"augment": "none"}, "augment"), ({"ids": [0]}, "ids")],
)
def test_a_state_of_other_batches_is_refused(change, named, synthetic):
    split = {"split": "labelled"} if named == "ids" else {}
    state = loader(synthetic, **split).state_dict()
    with pytest.raises(UsageError, match=f"a loader with {named}"):
        loader(synthetic, **split | change).load_state_dict(state)
    with pytest.raises(UsageError, match="a loader with augment crop 0, but this one has 4"):
        loader(synthetic, **split).load_state_dict(loader(synthetic, augment="flip=0.5", **split).state_dict())
    for broken in ({}, {"epoch": "x"}, state | {"batch": 99}, state | {"epoch": -1}, state | {"depends_on": None}):
        with pytest.raises(UsageError, match="state"):
            loader(synthetic, **split).load_state_dict(broken)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "trian"}, "did you mean 'train'"),
        ({"augment": "standrad"}, "did you mean 'standard'"),
        ({"augment": 0.5}, "augment 0.5 is neither an Augment nor a recipe"),
        ({"pipeline": "residnet"}, "did you mean 'resident'"),
        ({"dtype": "float61"}, "did you mean 'float16'"),
        ({"dtype": torch.float64}, "float64"),
        ({"device": "cpus"}, "device 'cpus' is not one of"),
        ({"batch_size": 0}, r"batch_size 0 is outside \[1"),
        ({"batch_size": 12.5}, "batch_size 12.5 is not a whole number"),
        ({"batch_size": True}, "batch_size True is not a whole number"),
        ({"seed": -1}, "seed -1 is outside"),
        ({"seed": "3"}, "seed '3' is not a whole number"),
        ({"seed": None}, "seed None is not a whole number"),
        ({"split_seed": 1.5}, "split_seed 1.5 is not a whole number"),
        ({"views": 0}, "views 0 is outside"),
        ({"shuffle": "False"}, "shuffle 'False' is neither True nor False"),
        ({"drop_last": 1}, "drop_last 1 is neither True nor False"),
        ({"with_ids": "no"}, "with_ids 'no' is neither"),
        ({"device": torch.device("meta")}, "device 'meta' is not one of"),
        ({"device": None}, "device 'None' is not one of"),
        ({"workers": 2.5}, "workers 2.5 is not a whole number"),
        ({"workers": 10**6}, r"workers 1000000 is outside \[1, 1024\]"),
        ({"ids": np.ones(100, bool)}, "numpy.flatnonzero"),
        ({"ids": []}, "at least one"),
        ({"ids": [1.5]}, "whole number"),
        ({"ids": [3, 3], "split": "labelled"}, "ids have 3 twice"),
        ({"ids": [100], "split": "labelled"}, "1 numbers, such as 100, that are not samples .* its 100 ids"),
        ({"transform": "flip"}, "transform 'flip' cannot be called"),
        ({"rank": 0}, "belong together"),
        ({"rank": 2, "world_size": 2}, r"rank 2 is outside \[0, 1\]"),
        ({"rank": 0, "world_size": 0}, "world_size 0 is outside"),
        ({"rank": "0", "world_size": 2}, "rank '0' is not a whole number"),
        ({"workers": 0, "pipeline": "torchvision"}, "workers 0 is outside"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(wrong, message, synthetic):
    with pytest.raises(UsageError, match=message):
        next(iter(loader(synthetic, **wrong)))


def test_a_dataset_is_an_object_or_a_path():
    with pytest.raises(UsageError, match="there is no dataset at nowhere"):
        Loader("nowhere")
    for wrong in (None, 0, b"data", ""):
        with pytest.raises(UsageError, match="is neither a Dataset nor the path"):
            Loader(wrong)


def test_numbers_of_numpy_and_torch_are_numbers(synthetic):
    made = loader(synthetic, batch_size=np.int64(16), seed=torch.tensor(3), views=np.int8(1), workers=np.uint8(2))
    assert same(list(made), list(loader(synthetic)))
    assert json.loads(json.dumps(made.state_dict())) == loader(synthetic).state_dict() | {"epoch": 1}
    for wrong in (1.9, "1", None, float("nan"), -1, 2**32, True):
        with pytest.raises(UsageError, match=f"epoch {wrong!r} is"):
            made.set_epoch(wrong)
        with pytest.raises(UsageError, match="the state's epoch"):
            made.load_state_dict(made.state_dict() | {"epoch": wrong})


@pytest.mark.parametrize("name", [name for name in ready if ":" not in name])
@pytest.mark.whole
def test_a_caller_may_change_its_batches(name, synthetic):
    for more in ({"split": "validation"}, {"shuffle": False}, {}):
        with loader(synthetic, pipeline=name, **more) as made, loader(synthetic, pipeline=name, **more) as other:
            for batch in made:
                for part in batch:
                    part.zero_()
            list(other)
            assert same(list(made), list(other))


def test_words_and_objects_mean_the_same(synthetic):
    words = loader(synthetic.path, split="train", augment="flip=0.5", dtype="float16", device="cpu")
    objects = loader(
        synthetic, split="training", augment=Augment(flip=0.5), dtype=torch.float16, device=torch.device("cpu")
    )
    assert same(list(words), list(objects))
    assert ids_of(loader(synthetic, split="val")) == ids_of(loader(synthetic, split="validation"))


@every_pipeline
@pytest.mark.whole
def test_only_some_ids(name, synthetic):
    chosen = synthetic.ids("training")[5:40]
    made = loader(synthetic, pipeline=name, ids=torch.from_numpy(chosen[::-1].copy()))
    assert sorted(number for batch in ids_of(made) for number in batch) == chosen.tolist()
    made.close()


@every_pipeline
@pytest.mark.whole
@pytest.mark.parametrize("split", ["training", "validation"])
def test_processes_share_the_batches_of_one(name, split, synthetic):
    ids = synthetic.ids(split)[: 19 if split == "validation" else 72]
    with loader(synthetic, split=split, ids=ids, pipeline=name) as one:
        whole = list(one)
    shares = []
    for rank in range(4):
        with loader(synthetic, split=split, ids=ids, pipeline=name, rank=rank, world_size=4) as part:
            assert part.batch_size == 16
            shares.append(list(part))
            assert len(shares[-1]) == len(part)
    for k, (images, labels, numbers) in enumerate(whole):
        parts = [share[k] for share in shares if k < len(share)]
        assert torch.equal(torch.cat([part[2] for part in parts]), numbers)
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)
        assert torch.equal(torch.cat([part[0] for part in parts]), images)
    sizes = [[len(batch[2]) for batch in share] for share in shares]
    assert sizes == ([[4] * 4 + [2]] * 4 if split == "training" else [[4, 1], [4, 1], [4, 1], [4]])


def test_unequal_shares_are_refused_where_they_would_weigh_differently(synthetic):
    ids = synthetic.ids("training")[:67]
    with pytest.raises(UsageError, match="last batch of an epoch has 3 samples, which 2 processes cannot share"):
        next(iter(loader(synthetic, ids=ids, rank=0, world_size=2)))
    assert len(list(loader(synthetic, ids=ids, rank=0, world_size=2, drop_last=True))) == 4
    with pytest.raises(UsageError, match="size of all their batches together: choose a multiple of 3"):
        next(iter(loader(synthetic, rank=0, world_size=3)))


@every_pipeline
@pytest.mark.whole
def test_views_are_augmented_independently(name, synthetic):
    with loader(synthetic, pipeline=name, views=3) as made, loader(synthetic, pipeline=name) as plain:
        for ((one, two, three), labels, ids), (images, wanted, numbers) in zip(made, plain, strict=True):
            assert torch.equal(one, images)
            assert torch.equal(labels, wanted)
            assert torch.equal(ids, numbers)
            assert not torch.equal(two, three)
            source = torch.from_numpy(np.array(synthetic.images("train")[ids.numpy()]))
            spec = RECIPES["standard"]
            assert torch.equal(two, reference.apply(source, draw(spec, view_seed(3, 1), 0, ids.numpy()), spec))


def noise(images):
    return images + torch.rand(1) * np.random.rand() * random.random()  # noqa: NPY002


def test_a_transform_repeats_and_leaves_the_global_generators_alone(synthetic):
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    first = [images for images, _, _ in loader(synthetic, transform=noise)]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]
    torch.manual_seed(6)
    made = loader(synthetic, transform=noise)
    assert all(torch.equal(a, b) for a, (b, _, _) in zip(first, made, strict=True))
    plain = list(loader(synthetic))
    shifts = [float((a - b[0]).mean()) for a, b in zip(first, plain, strict=True)]
    assert len(set(shifts)) == len(shifts)  # other numbers for each batch
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images in first)
    resumed = loader(synthetic, transform=noise)
    resumed.load_state_dict(made.state_dict() | {"epoch": 0, "batch": 2})
    assert torch.equal(next(iter(resumed))[0], first[2])


class Both(nn.Module):
    def forward(self, images, labels):
        return images, labels + 1


def test_transforms_may_take_the_labels(synthetic):
    plain = list(loader(synthetic))
    for transform in (Both(), lambda images, labels: (images, labels + 1)):
        for (_, labels, _), (_, wanted, _) in zip(loader(synthetic, transform=transform), plain, strict=True):
            assert torch.equal(labels, wanted + 1)
    for _, labels, _ in loader(synthetic, transform=v2.CutMix(num_classes=10)):
        assert labels.shape[1:] == (10,)
        assert torch.allclose(labels.sum(1), torch.ones(len(labels)))
    for (images, _, _), (wanted, _, _) in zip(
        loader(synthetic, transform=v2.Normalize((0.5,) * 3, (0.5,) * 3)), plain, strict=True
    ):
        assert torch.allclose(images, (wanted - 0.5) / 0.5)


def test_kornia_s_transforms(synthetic):
    kornia = pytest.importorskip("kornia.augmentation", reason="kornia is not installed")
    transform = kornia.AugmentationSequential(kornia.RandomHorizontalFlip(p=0.5), data_keys=["input"])
    one, two = (list(loader(synthetic, transform=transform)) for _ in range(2))
    assert same(one, two)


def test_after_an_error_the_next_loop_goes_on_with_the_batch_that_failed(synthetic):
    calls = []

    def fails_once(images):
        calls.append(len(images))
        if len(calls) == 2:
            raise ValueError("once")
        return noise(images)

    made = loader(synthetic, transform=fails_once)
    iterator = iter(made)
    first = next(iterator)
    with pytest.raises(ValueError, match="once"):
        next(iterator)
    assert made.state_dict()["batch"] == 1
    with pytest.raises(UsageError, match="an error ended it"):
        next(iterator)
    assert same([first, *made], list(loader(synthetic, transform=noise)))
    assert made.epoch == 1


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda images: None, "the transform returns NoneType; return the images"),
        (lambda images: [images], "returns list"),
        (lambda images: images[:3], "as many as it is given"),
        (lambda images, labels: images, "returns Tensor; return the images and the labels"),
        (lambda images, labels: (images, labels[:2]), "as many as it is given"),
        (lambda images, labels=None: (images, None), "returns tuple; return the images and the labels"),
        (lambda: None, r"takes \(\); it must take the images"),
        (lambda a, b, c: None, r"takes \(a, b, c\); it must take the images"),
    ],
)
def test_a_transform_that_makes_no_batch_is_refused(transform, message, synthetic):
    with pytest.raises(UsageError, match=message):
        next(iter(loader(synthetic, transform=transform)))


def test_threads_may_share_an_epoch(synthetic):
    made, found = loader(synthetic, batch_size=2), []
    iterator = iter(made)
    threads = [threading.Thread(target=lambda: found.extend(iterator)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for batch in ids_of(found) for number in batch) == synthetic.ids("training").tolist()


def test_closing(synthetic):
    made = loader(synthetic)
    next(iter(made))
    made.close()
    made.close()
    with pytest.raises(UsageError, match="this loader is closed"):
        next(iter(made))


def test_a_loader_that_is_dropped_leaves_no_threads_and_no_memory(synthetic):
    def threads() -> set[str]:
        return {thread.name for thread in threading.enumerate() if thread.name.startswith("fastcifar-resident")}

    gc.disable()  # reference counts alone are enough
    try:
        made = loader(synthetic)
        next(iter(made))
        pipeline = weakref.ref(made._pipelines()[0])
        assert threads()
        del made
        assert pipeline() is None
    finally:
        gc.enable()
    for thread in threading.enumerate():
        if thread.name.startswith("fastcifar-resident"):
            thread.join(5)
    assert not threads()


def test_a_copy_for_another_process_goes_on_where_it_was(synthetic):
    made = loader(synthetic)
    next(iter(made))
    copy = pickle.loads(pickle.dumps(made))
    assert (copy.epoch, copy.state_dict()) == (0, made.state_dict())
    assert len(list(copy)) == len(made) - 1


def test_a_thread_may_use_it(synthetic):
    found: list = []
    made = loader(synthetic)
    thread = threading.Thread(target=lambda: found.extend(made))
    thread.start()
    thread.join()
    assert same(found, list(loader(synthetic)))


def test_public_names_are_imported_when_they_are_used():
    assert fastcifar.Loader is Loader
    assert fastcifar.recipe("standard") == RECIPES["standard"]
    assert {"Loader", "Augment", "Dataset", "recipe"} <= set(dir(fastcifar))
