"""The torchvision pipeline's own promises: its worker processes, its PNG files, torchvision's own pixels."""

import errno
import os
import signal
import tempfile
import time
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from fastcifar.kernels import torchvision as per_sample
from fastcifar.pipelines.torchvision import TorchvisionPipeline
from PIL import Image
from support.pretend_cuda import PretendDevice, same

from fastcifar.augment import draw
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.pipeline import Request
from fastcifar.recipes import RECIPES
from fastcifar.system import shm
from fastcifar.system.once import TOLD

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more processes than there are cores
every_form = pytest.mark.parametrize("form", TorchvisionPipeline.forms)


def opened(dataset, form="", workers=1, recipe="erasing", **more):
    asked = Request(dataset, **({"augment": RECIPES[recipe], "batch_size": 8, "seed": 1} | more))
    return TorchvisionPipeline(asked, form, workers)


@pytest.mark.whole
@every_form
@pytest.mark.parametrize("recipe", ["erasing", "imagenet256"])
def test_pixels_are_torchvisions_bit_by_bit_for_any_number_of_workers(form, recipe, synthetic):
    with opened(synthetic, form, workers=3, recipe=recipe, dtype=torch.bfloat16) as pipeline:
        for batch in pipeline.epoch(4):
            rows = batch.ids.numpy()
            source = torch.from_numpy(np.array(synthetic.images("train")[rows]))
            draws = draw(RECIPES[recipe], 1, 4, rows)
            assert torch.equal(batch.images, per_sample.apply(source, draws, RECIPES[recipe], torch.bfloat16))


def test_only_rotation_makes_a_difference(synthetic):
    assert opened(synthetic, recipe="imagenet256").exact
    assert "float32 coordinates" in opened(synthetic, recipe="basic").differs


@pytest.mark.whole
def test_workers_last_as_long_as_the_pipeline(synthetic):
    before = set(active_children())
    with opened(synthetic, workers=2) as pipeline:
        next(pipeline.epoch(0))
        workers = set(active_children()) - before
        next(pipeline.epoch(1))
        assert set(active_children()) - before == workers
        assert len(workers) == 2
    assert not any(worker.is_alive() for worker in workers)


def test_an_error_in_a_worker_reaches_the_caller_and_the_pipeline_lives_on(synthetic):
    with opened(synthetic, "png") as pipeline:
        lost = Path(pipeline._folder.name) / f"{synthetic.ids('training')[7]}.png"
        content = lost.read_bytes()
        lost.unlink()
        with pytest.raises(FileNotFoundError, match=lost.name):
            list(pipeline.epoch(0))
        lost.write_bytes(content)
        assert len(list(pipeline.epoch(0))) == 10


@pytest.mark.whole
@pytest.mark.parametrize("when", ["in an epoch", "between two"])
def test_a_killed_worker_is_an_error_within_seconds(when, synthetic):
    before = set(active_children())
    pipeline = opened(synthetic, workers=2, recipe="none", batch_size=1)
    epoch = pipeline.epoch(0)
    next(epoch)
    worker, *_ = set(active_children()) - before
    os.kill(worker.pid, signal.SIGKILL)
    start = time.monotonic()
    with pytest.raises(FastcifarError, match=r"worker process ended .*memory or /dev/shm was full"):
        list(epoch if when == "in an epoch" else pipeline.epoch(1))
    assert time.monotonic() - start < 15
    with pytest.raises(UsageError, match="closed"):
        next(pipeline.epoch(1))
    assert set(active_children()) <= before


@pytest.mark.parametrize(("batches", "workers"), [(0.5, 0), (3, 1), (5, 2), (6, 2)])
def test_where_shared_memory_is_short_fewer_workers_or_none_make_the_same_batches(
    batches, workers, synthetic, monkeypatch, capsys
):
    """Docker gives a container 64 MB. batches: those for which /dev/shm has room."""
    monkeypatch.delenv(TOLD, raising=False)
    monkeypatch.setattr(shm, "free_bytes", lambda: int(batches * shm.padded(8 * 32 * 32 * 3 * 4, 64, 64)))
    before = set(active_children())
    with opened(synthetic, workers=2) as pipeline, opened(synthetic, workers=2, split="validation") as validation:
        said = capsys.readouterr().err
        assert pipeline._loader.num_workers == workers
        if batches == 6:
            assert (pipeline.hindered, said) == ("", "")
            return
        assert said.count("MiB are free in /dev/shm") == 1  # not for each pipeline of a run
        assert "docker run --shm-size=1g" in pipeline.hindered
        assert f"so {['no worker', '1 worker', '2 workers'][workers]}" in pipeline.hindered
        assert bool(validation.hindered) == (batches < len(validation) == 3)
        if workers == 0:
            got = list(pipeline.epoch(3))
            assert set(active_children()) <= before
            monkeypatch.setattr(shm, "free_bytes", lambda: None)
            with opened(synthetic) as usual:
                for one, other in zip(got, usual.epoch(3), strict=True):
                    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    with pytest.raises(UsageError, match="closed"):
        next(pipeline.epoch(1))


def begun_after_another(pipeline):
    """Begin an epoch, and another one, which ends the first; return the second after its first batch."""
    first = pipeline.epoch(0)
    next(first)
    second = pipeline.epoch(1)
    next(second)
    with pytest.raises(UsageError, match="another was begun"):
        next(first)
    return second


def test_an_epoch_without_workers_ends_like_others(synthetic, monkeypatch):
    monkeypatch.setattr(shm, "free_bytes", lambda: 0)
    with opened(synthetic) as pipeline:
        second = begun_after_another(pipeline)
        monkeypatch.setattr(type(pipeline._loader.dataset), "__getitems__", None)
        with pytest.raises(TypeError):  # an error of ours keeps its traceback
            list(second)


def test_shared_memory_that_fills_up_later_is_one_line_with_the_cure(synthetic):
    """torch puts the worker's traceback into the message of the error."""

    class Full:
        def __iter__(self):
            raise RuntimeError(
                "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
                "RuntimeError: unable to allocate shared memory(shm) for file </torch_9660_299274533_0>: "
                "No space left on device (28)"
            )

    pipeline = opened(synthetic)
    pipeline._loader = Full()
    with pytest.raises(
        FastcifarError, match=r"^shared memory is full.*docker run --shm-size=1g.*smaller batch"
    ) as error:
        next(pipeline.epoch(0))
    assert "\n" not in str(error.value)


def test_another_epoch_ends_the_one_before(synthetic):
    with opened(synthetic) as pipeline:
        second = begun_after_another(pipeline)
        assert len(list(second)) == 9


def test_closing_ends_the_epoch(synthetic):
    pipeline = opened(synthetic)
    epoch = pipeline.epoch(0)
    next(epoch)
    pipeline.close()
    with pytest.raises(UsageError, match="pipeline closed"):
        next(epoch)


def test_png_files_are_those_of_the_split_and_go_with_the_pipeline(synthetic):
    with opened(synthetic, "png", split="validation") as pipeline:
        folder = Path(pipeline._folder.name)
        assert sorted(int(file.stem) for file in folder.iterdir()) == synthetic.ids("validation").tolist()
        assert pipeline.build_seconds > 0
    assert not folder.exists()


def test_png_files_that_cannot_be_written_leave_nothing(synthetic, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(FastcifarError, match="disk full while writing"):
        opened(synthetic, "png")
    assert not list(tmp_path.iterdir())


def test_torchs_generator_is_left_alone(synthetic):
    state = torch.get_rng_state()
    with opened(synthetic) as pipeline:
        next(pipeline.epoch(0))
    assert torch.equal(torch.get_rng_state(), state)


def test_without_workers_is_refused(synthetic):
    with pytest.raises(UsageError, match="0 workers"):
        opened(synthetic, workers=0)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")  # DataLoader sees through the pretence
def test_batches_go_to_a_device_that_comes_after_without_anybody_waiting(synthetic, monkeypatch):
    with opened(synthetic) as here:
        expected = list(here.epoch(0))
    gpu, seen = PretendDevice().installed(monkeypatch), []
    with opened(synthetic, device=gpu.device) as there:
        for batch in there.epoch(0):
            gpu.read(batch, seen)
        assert seen == []
        assert gpu.waits == []
        gpu.main.run()
        next(there.epoch(1))  # and is left
        assert gpu.pinned_arrays > 0
    assert gpu.pinned_arrays == 0
    assert gpu.main not in gpu.copied_on
    assert same(seen, expected)


@pytest.mark.gpu
@every_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_device_every_batch_is_as_on_the_cpu(form, dtype, synthetic):
    with (
        opened(synthetic, form, dtype=dtype) as here,
        opened(synthetic, form, dtype=dtype, device=torch.device("cuda")) as there,
    ):
        batches = list(there.epoch(2))
        assert {part.device.type for batch in batches for part in batch} == {"cuda"}
        assert all(batch.images.is_contiguous(memory_format=torch.channels_last) for batch in batches)
        assert same(batches, here.epoch(2))
