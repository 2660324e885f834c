"""What a contestant gives is compared with the reference: its pixels, its labels and its epochs."""

from collections.abc import Callable

import torch

from fastcifar.pipeline import Batch, Pipeline, open_pipeline
from fastcifar.recipes import RECIPES
from fastcifar.throughput import verify


def batch_of(pipeline: Pipeline) -> Batch:
    return next(iter(pipeline.epoch(0)))


def test_pixels_are_compared_with_those_of_their_own_epoch(synthetic):
    with open_pipeline("resident", synthetic, augment=RECIPES["erasing"], batch_size=16) as pipeline:
        batch = batch_of(pipeline)
        assert verify.check_pixels(batch, pipeline.request, 0).why_not("") is None
        assert verify.check_pixels(batch, pipeline.request, 1).why_not("")
        wrong: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "not channels_last": lambda x: x.contiguous(),
            "torch.float16": lambda x: x.half(),
            "not finite": lambda x: (x / 0 * 0).contiguous(memory_format=torch.channels_last),
        }
        for reason, spoil in wrong.items():
            found = verify.check_pixels(batch._replace(images=spoil(batch.images)), pipeline.request, 0)
            assert reason in (found.why_not("") or "")
    assert verify.Verification().why_not("") == "no batch was compared"


def test_an_epoch_must_be_whole(synthetic):
    with open_pipeline("resident", synthetic, batch_size=16) as pipeline:
        batches, request = list(pipeline.epoch(0)), pipeline.request
    assert verify.check_samples(batches, request, whole=True).fault is None
    assert verify.check_samples(batches[:3], request, whole=False).fault is None
    twice = batches[0]._replace(ids=batches[0].ids.index_fill(0, torch.tensor([0]), int(batches[0].ids[1])))
    assert "a sample twice" in (verify.check_samples([twice], request, whole=False).fault or "")
    halves = [Batch(*(part[:4] for part in batch)) for batch in batches]
    assert "batches have [4] images instead of 16" in (verify.check_samples(halves, request, whole=True).fault or "")
    assert "left out 16 of 80" in (verify.check_samples(batches[:-1], request, whole=True).fault or "")
    assert "no batch" in (verify.check_samples([], request, whole=True).fault or "")
    foreign = batches[0]._replace(ids=torch.from_numpy(synthetic.ids("validation")[:16]))
    assert "not of its split" in (verify.check_samples([foreign], request, whole=False).fault or "")
