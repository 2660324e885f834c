"""The FFCV pipeline's own promises: its producer's errors, what it shares, what its stock operations do and cannot."""

import importlib.util
import threading
import time

import numpy as np
import pytest
import torch
from fastcifar.pipelines.ffcv import FfcvPipeline
from support.pretend_cuda import PretendDevice, same

from fastcifar.augment import Augment
from fastcifar.data.convert import convert
from fastcifar.errors import UsageError
from fastcifar.pipeline import Request, available, open_pipeline
from fastcifar.recipes import RECIPES
from fastcifar.system import cures

needs_ffcv = pytest.mark.skipif(FfcvPipeline.missing("") is not None, reason="FFCV is not here")


def request(dataset, augment=RECIPES["erasing"], **more):
    return Request(dataset, **({"augment": augment, "batch_size": 8, "seed": 1} | more))


@pytest.mark.whole
@needs_ffcv
@pytest.mark.parametrize("workers", [2, 7])
def test_any_number_of_workers_gives_the_same_batches(workers, synthetic):
    asked = request(synthetic)
    with FfcvPipeline(asked, workers=1) as one, FfcvPipeline(asked, workers=workers) as many:
        for a, b in zip(one.epoch(0), many.epoch(0), strict=True):
            assert torch.equal(a.images, b.images)


def within_seconds(action):
    """The error that an action raises, or None; the test fails where it takes more than ten seconds."""
    met = []

    def run():
        try:
            action()
        except BaseException as error:
            met.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "it hangs"
    return met[0] if met else None


@pytest.mark.whole
@needs_ffcv
@pytest.mark.parametrize("form", FfcvPipeline.forms)
def test_a_producer_that_dies_is_an_error_and_the_pipeline_lives_on(form, synthetic, monkeypatch):
    from fastcifar.pipelines.ffcv.reading import ReadAhead

    run_pipeline = ReadAhead.run_pipeline

    def failing(self, number, *rest):
        if number == 4:
            raise MemoryError("no room for batch 4")
        return run_pipeline(self, number, *rest)

    with FfcvPipeline(request(synthetic, Augment()), form) as pipeline:
        seen = []
        monkeypatch.setattr(ReadAhead, "run_pipeline", failing)
        error = within_seconds(lambda: seen.extend(pipeline.epoch(0)))
        assert isinstance(error, MemoryError)
        assert "batch 4" in str(error)
        assert len(seen) == 4
        monkeypatch.setattr(ReadAhead, "run_pipeline", run_pipeline)
        assert len(list(pipeline.epoch(0))) == 10


@needs_ffcv
def test_an_error_of_our_kernel_reaches_the_caller(synthetic, monkeypatch):
    from fastcifar.kernels import cpu

    with FfcvPipeline(request(synthetic)) as pipeline:
        monkeypatch.setattr(cpu, "draw", lambda *_: 1 / 0)
        assert isinstance(within_seconds(lambda: list(pipeline.epoch(0))), ZeroDivisionError)


@needs_ffcv
def test_the_process_keeps_its_numbers_of_threads(synthetic):
    import numba

    threads = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(3)
    try:
        with FfcvPipeline(request(synthetic)) as pipeline:
            assert len(list(pipeline.epoch(0))) == 10
            assert torch.get_num_threads() == 3
            assert numba.get_num_threads() == threads[1]
    finally:
        torch.set_num_threads(threads[0])


@needs_ffcv
def test_compiled_once_for_all_pipelines_of_a_process(synthetic):
    with FfcvPipeline(request(synthetic)) as first, FfcvPipeline(request(synthetic, split="validation")) as second:
        assert first._reader._loader.code is second._reader._loader.code
        assert 0 < second.build_seconds < 5


@needs_ffcv
def test_another_epoch_and_closing_end_the_one_before(synthetic):
    pipeline = FfcvPipeline(request(synthetic))
    first, second = pipeline.epoch(0), pipeline.epoch(1)
    next(first)
    next(second)
    with pytest.raises(UsageError, match="another was begun"):
        next(first)
    pipeline.close()
    with pytest.raises(UsageError, match="pipeline closed"):
        next(second)


@pytest.mark.whole
@needs_ffcv
def test_a_slow_caller_gets_the_same_pixels(synthetic):
    """FFCV's slots come round again and again while batches wait."""
    asked = request(synthetic, batch_size=2)
    with FfcvPipeline(asked, workers=2) as pipeline:
        quick = [batch.images.clone() for batch in pipeline.epoch(0)]
        for wanted, batch in zip(quick, pipeline.epoch(0), strict=True):
            time.sleep(0.005)
            assert torch.equal(batch.images, wanted)


@pytest.mark.whole
@needs_ffcv
def test_stock_flips_as_often_as_asked(synthetic):
    rows = np.array(synthetic.images("train")).astype(np.float32) / 255
    with FfcvPipeline(request(synthetic, Augment(flip=0.5)), "stock") as pipeline:
        assert "FFCV's own draws" in pipeline.differs
        flipped = 0
        for batch in pipeline.epoch(0):
            for image, row in zip(batch.images.permute(0, 2, 3, 1).numpy(), batch.ids.tolist(), strict=True):
                as_is, mirrored = (
                    np.allclose(image, rows[row][:, step], atol=1e-6) for step in (slice(None), slice(None, None, -1))
                )
                assert as_is != mirrored
                flipped += mirrored
    assert 15 < flipped < 65  # of 80


@pytest.mark.whole
@needs_ffcv
def test_stock_jitters_and_normalises(synthetic):
    spec = Augment(brightness=0.2, contrast=0.2, saturation=0.2, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    rows = (np.array(synthetic.images("train")).astype(np.float32) / 255 - spec.mean) / spec.std
    with FfcvPipeline(request(synthetic, spec, batch_size=80), "stock") as pipeline:
        (batch,) = pipeline.epoch(0)
    got, plain = batch.images.permute(0, 2, 3, 1).numpy(), rows[batch.ids.numpy()]
    assert not np.allclose(got, plain, atol=0.1)
    assert np.corrcoef(got.ravel(), plain.ravel())[0, 1] > 0.9


@pytest.mark.whole
@needs_ffcv
def test_stock_on_several_threads_may_be_open_twice(synthetic):
    asked = request(synthetic, Augment(), split="labelled", batch_size=4)
    with FfcvPipeline(asked, "stock", 2) as one, FfcvPipeline(asked, "stock", 2) as two:
        for a, b in zip(one.epoch(0), two.epoch(0), strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.labels, torch.from_numpy(synthetic.labels("train")[a.ids.numpy()]).long())


@pytest.mark.whole
@needs_ffcv
def test_stock_shifts_and_cuts_out_by_ffcvs_own_operations(synthetic):
    spec = Augment(crop=4, crop_fill="zeros", cutout=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    with FfcvPipeline(request(synthetic, spec, batch_size=16), "stock", 1) as pipeline:
        assert "cutout" in pipeline.differs
        (batch, *_) = pipeline.epoch(0)
    level = 1 / 255 / 0.25
    cut = (batch.images.abs() < level).all(1).sum((1, 2))
    assert (cut >= 64).all()  # the square of 8 x 8 pixels, of the mean colour
    padding = (batch.images <= -2 + level).all(1).sum((1, 2))
    assert padding.float().mean() > 32  # shifted by two pixels on the average, on two axes


def test_stock_names_what_it_cannot_do(synthetic):
    asked = request(synthetic, RECIPES["erasing"])
    assert "hue, rotation, erasing" in FfcvPipeline.refuses(asked, "stock")
    assert "a reflected crop, alternating flips" in FfcvPipeline.refuses(
        request(synthetic, RECIPES["airbench94"]), "stock"
    )
    assert "size" in FfcvPipeline.refuses(request(synthetic, RECIPES["imagenet256"]), "stock")


def test_without_the_file_the_cure_is_said(tmp_path):
    plain = convert("synthetic:10", tmp_path / "plain")
    reason = FfcvPipeline.refuses(request(plain), "")
    assert "no ffcv/train.beton" in reason
    assert "fastcifar convert SRC DEST --formats ffcv --overwrite" in reason


@pytest.mark.parametrize("form", ["ffcv", "ffcv:stock"])
def test_without_the_library_the_cure_is_said(form, synthetic, monkeypatch):
    monkeypatch.setattr("fastcifar.pipelines.ffcv.find_spec", lambda _: None)
    assert cures.extra("ffcv") in available()[form]
    with pytest.raises(UsageError, match="FFCV is not installed"):
        open_pipeline(form, synthetic)


@needs_ffcv
def test_a_library_that_does_not_load_is_said(monkeypatch):
    def broken(path):
        raise OSError("libopencv_core.so.406: cannot open shared object file")

    assert importlib.util.find_spec("ffcv")
    monkeypatch.setattr("fastcifar.pipelines.ffcv.CDLL", broken)
    assert "libopencv_core" in FfcvPipeline.missing("")


def still(form):
    """A recipe in which the form has nothing to draw by dice that are not ours."""
    return Augment(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)) if form == "stock" else RECIPES["erasing"]


@pytest.mark.whole
@needs_ffcv
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", FfcvPipeline.forms)
def test_batches_go_to_a_device_that_comes_after_without_anybody_waiting(form, dtype, synthetic, monkeypatch):
    asked = {"augment": still(form), "batch_size": 4, "dtype": dtype}
    with FfcvPipeline(request(synthetic, **asked), form, 2) as here:
        expected = [list(here.epoch(k)) for k in range(2)]
    gpu = PretendDevice().installed(monkeypatch)
    with FfcvPipeline(request(synthetic, device=gpu.device, **asked), form, 2) as there:
        for k in range(2):
            seen = []
            for batch in there.epoch(k):
                gpu.read(batch, seen)
            assert seen == []
            assert gpu.waits == []  # neither the caller nor FFCV's thread
            gpu.main.run()
            assert same(seen, expected[k])
    assert gpu.copied_on
    assert gpu.main not in gpu.copied_on
    # pixels are made in pinned memory, but for those that FFCV's Convert makes
    pixels_pinned_late = any(len(shape) == 4 for shape in gpu.pinned_late)
    assert pixels_pinned_late == (form == "stock" and dtype == torch.bfloat16)


@pytest.mark.whole
@needs_ffcv
@pytest.mark.parametrize("form", FfcvPipeline.forms)
def test_an_epoch_for_a_device_that_is_left_early_leaves_nothing(form, synthetic, monkeypatch):
    gpu = PretendDevice().installed(monkeypatch)
    with FfcvPipeline(request(synthetic, still(form), device=gpu.device), form, 2) as pipeline:
        for k in range(5):
            next(pipeline.epoch(k))
            assert gpu.waits == []
        assert gpu.pinned_arrays > 0
    assert gpu.pinned_arrays == 0


@needs_ffcv
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", FfcvPipeline.forms)
def test_on_a_device_every_batch_is_as_on_the_cpu(form, dtype, synthetic):
    asked = {"augment": still(form), "dtype": dtype}
    with (
        FfcvPipeline(request(synthetic, **asked), form) as here,
        FfcvPipeline(request(synthetic, device=torch.device("cuda"), **asked), form) as there,
    ):
        for k in range(3):
            batches = list(there.epoch(k))
            assert {part.device.type for batch in batches for part in batch} == {"cuda"}
            assert same(batches, here.epoch(k))
