"""The resident pipeline's own promises: its ring, its buffers, errors from its threads."""

import numpy as np
import pytest
import torch
from fastcifar.kernels import cpu
from fastcifar.pipelines.resident import ResidentPipeline, host
from fastcifar.pipelines.resident.host import OnHost

from fastcifar.pipeline import Request
from fastcifar.recipes import RECIPES
from fastcifar.system.buffers import KEPT, Buffers


def request(dataset, **more):
    return Request(dataset, augment=RECIPES["erasing"], batch_size=8, seed=1, **more)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_any_number_of_workers_gives_the_same_batches(workers, synthetic):
    asked = request(synthetic)
    with ResidentPipeline(asked, workers=1) as one, ResidentPipeline(asked, workers=workers) as many:
        for a, b in zip(one.epoch(0), many.epoch(0), strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.ids, b.ids)


def test_an_error_in_a_worker_reaches_the_caller_and_the_pipeline_lives_on(synthetic, monkeypatch):
    draw, calls = cpu.draw, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise MemoryError("no room for batch 4")
        return draw(*arguments)

    with ResidentPipeline(request(synthetic), workers=1) as pipeline:
        monkeypatch.setattr(cpu, "draw", failing)
        seen = []
        with pytest.raises(MemoryError, match="batch 4"):
            seen.extend(pipeline.epoch(0))
        assert len(seen) == 3
        assert len(list(pipeline.epoch(0))) == 10


def test_batches_are_made_ahead(synthetic, monkeypatch):
    made = []
    make = OnHost._make
    with ResidentPipeline(request(synthetic), workers=1) as pipeline:
        monkeypatch.setattr(OnHost, "_make", lambda self, *a: made.append(1) or make(self, *a))
        epoch = pipeline.epoch(0)
        next(epoch)
        pipeline._maker._pool.submit(int).result()  # behind all that was submitted
        assert len(made) == host.AHEAD
        epoch.close()


def test_memory_is_taken_again_once_nothing_refers_to_it():
    buffers = Buffers()
    first = buffers.images(4, 32, torch.bfloat16)
    second = buffers.images(4, 32, torch.bfloat16)
    assert first.data_ptr() != second.data_ptr()
    place = first.data_ptr()
    view = first[1:3, 0]
    del first
    assert buffers.images(4, 32, torch.bfloat16).data_ptr() != place  # a view still needs it
    del view
    assert buffers.images(4, 32, torch.bfloat16).data_ptr() == place


def test_a_saved_activation_keeps_its_memory():
    buffers, weight = Buffers(), torch.ones(3, 3, 1, 1, requires_grad=True)
    images = buffers.images(2, 32, torch.float32)
    images.fill_(1.0)
    out = torch.nn.functional.conv2d(images, weight)
    place = images.data_ptr()
    del images
    other = buffers.images(2, 32, torch.float32)
    assert other.data_ptr() != place
    other.fill_(7.0)
    out.sum().backward()
    assert weight.grad.unique().tolist() == [2 * 32 * 32]


def test_the_pool_does_not_grow_with_what_the_caller_keeps():
    buffers = Buffers()
    kept = [buffers.images(1, 32, torch.float32) for _ in range(100)]
    assert len(buffers._arrays) <= KEPT
    assert len({tensor.data_ptr() for tensor in kept}) == 100


def test_unlabelled_test_images_have_label_minus_one(synthetic, monkeypatch):
    monkeypatch.setattr(type(synthetic), "labels", lambda self, part: None)
    with ResidentPipeline(Request(synthetic, "test")) as pipeline:
        assert {label for batch in pipeline.epoch(0) for label in batch.labels.tolist()} == {-1}


def test_the_next_epochs_order_is_ready_before_it_is_asked_for(synthetic):
    with ResidentPipeline(request(synthetic), workers=1) as pipeline:
        first = [batch.ids for batch in pipeline.epoch(0)]
        epoch, future = pipeline._maker._next_order
        assert epoch == 1
        assert np.array_equal(future.result(), pipeline.request.order(1))
        again = torch.cat([batch.ids for batch in pipeline.epoch(0)])  # and asking for another is no error
        assert torch.equal(again, torch.cat(first))
