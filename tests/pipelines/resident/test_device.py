"""The resident pipeline's CUDA half: on a device where there is one, else on the CPU by Triton's interpreter."""

import importlib
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fastcifar.pipelines.resident import ResidentPipeline
from fastcifar.pipelines.resident.host import OnHost
from support.syncs import watched_syncs
from support.triton_kernels import gpu, interpreted, on_each

from bench.lib.launches import Trace
from fastcifar.errors import DoesNotFit
from fastcifar.pipeline import Request, open_pipeline
from fastcifar.recipes import RECIPES
from fastcifar.rng.cursor import clock_of

device = importlib.import_module("fastcifar.pipelines.resident.device")

somewhere = on_each("on")


def request(dataset, on="cpu", **more):
    return Request(
        dataset, **{"augment": RECIPES["erasing"], "batch_size": 8, "seed": 1, "device": torch.device(on)} | more
    )


@pytest.mark.whole
@somewhere
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("more", [{}, {"batch_size": 7}, {"batch_size": 7, "drop_last": True}, {"split": "validation"}])
def test_batches_are_those_of_the_host_bit_by_bit(dtype, more, on, synthetic):
    asked = request(synthetic, on, dtype=dtype, **more)
    host = OnHost(replace(asked, device=torch.device("cpu")), 1)
    made = list(device.OnDevice(asked).epoch(1))
    assert len(made) == asked.batches()
    for a, b in zip(host.epoch(1), made, strict=True):
        assert torch.equal(a.images, b.images.cpu())
        assert torch.equal(a.labels, b.labels.cpu())
        assert torch.equal(a.ids, b.ids.cpu())
        assert b.images.is_contiguous(memory_format=torch.channels_last)
        assert {part.device.type for part in b} == {on}
    host.close()


@pytest.mark.whole
@somewhere
@pytest.mark.parametrize("start", [0, 3, 9, 10])
def test_an_epoch_may_begin_at_any_batch(start, on, synthetic, monkeypatch):
    asked = request(synthetic, on)
    maker, made = device.OnDevice(asked), []
    whole = list(maker.epoch(2))
    render = maker.render
    monkeypatch.setattr(
        maker, "render", lambda order, clock, out: made.append(len(out.ids)) or render(order, clock, out)
    )
    rest = list(maker.epoch(2, start))
    assert len(rest) == 10 - start
    assert sum(made) == 80 - 8 * start
    for a, b in zip(whole[start:], rest, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.ids, b.ids)


@pytest.mark.whole
@somewhere
def test_a_seed_of_the_augmentation_alone_keeps_the_order(on, synthetic):
    asked = request(synthetic, on, augment_seed=2**63 + 5)
    host = OnHost(replace(asked, device=torch.device("cpu")), 1)
    for a, b, plain in zip(
        device.OnDevice(asked).epoch(1), host.epoch(1), device.OnDevice(request(synthetic, on)).epoch(1), strict=True
    ):
        assert torch.equal(a.images.cpu(), b.images)
        assert torch.equal(a.ids, plain.ids)
        assert not torch.equal(a.images, plain.images)
    host.close()


@somewhere
@pytest.mark.parametrize("seed", [0, 5, 2**64 - 1])
def test_the_order_is_the_requests(seed, on, synthetic):
    for shuffle in (True, False):
        asked = request(synthetic, on, seed=seed, shuffle=shuffle)
        made = device.OnDevice(asked)
        for epoch in (0, 1, 2**31):
            assert np.array_equal(made.order(epoch).cpu().numpy(), asked.order(epoch))


@pytest.mark.whole
@somewhere
def test_a_launch_makes_several_small_batches_but_no_more_than_its_bytes(on, synthetic, monkeypatch):
    asked = request(synthetic, on, augment=RECIPES["none"])
    maker, sizes = device.OnDevice(asked), []
    render = maker.render
    monkeypatch.setattr(
        maker, "render", lambda order, clock, out: sizes.append(len(out.ids)) or render(order, clock, out)
    )
    whole = list(maker.epoch(0))
    monkeypatch.setattr(device, "LAUNCH_BYTES", 3 * 8 * 3072 * 4)
    parts = list(maker.epoch(0))
    monkeypatch.setattr(device, "LAUNCH_BYTES", 1)
    single = list(maker.epoch(0))
    assert sizes == [80, 24, 24, 24, 8] + [8] * 10
    for a, b, c in zip(whole, parts, single, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.images, c.images)


@pytest.mark.whole
@somewhere
def test_what_renders_reads_its_batch_s_number_from_the_clock(on, synthetic):
    asked = request(synthetic, on)
    maker = device.OnDevice(asked)
    order, clock, out = maker.order(3), clock_of(1, 3, torch.device(on)), maker.empty(8)
    for batch in maker.epoch(3):
        maker.render(order, clock, out)
        assert torch.equal(out.ids, batch.ids)
        assert torch.equal(out.images, batch.images)
        clock[2] += 1


def test_only_the_device_s_half_can_be_recorded(synthetic):
    with open_pipeline("resident", synthetic) as pipeline:
        assert pipeline.renderer() is None
    with open_pipeline("torchvision", synthetic) as pipeline:
        assert pipeline.renderer() is None


@pytest.mark.gpu
def test_on_cuda_the_pipeline_renders_there(synthetic):
    with ResidentPipeline(request(synthetic, "cuda")) as pipeline:
        assert isinstance(pipeline.renderer(), device.OnDevice)


def test_a_dataset_that_does_not_fit_is_refused_with_the_sizes(synthetic, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (300 << 10, 80 << 20))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 << 20)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5 << 20)
    free = "batch of 8 take 0 MiB, but cuda has 0 of its 80 MiB free; choose"
    with pytest.raises(DoesNotFit, match=f"the dataset, its order and a {free}"):  # which halves a pack
        ResidentPipeline(request(synthetic, "cuda"))
    monkeypatch.setattr(device.Store, "is_kept", lambda *_: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 10, 80 << 20))
    with pytest.raises(DoesNotFit, match=f"the order of an epoch and a {free}"):
        ResidentPipeline(request(synthetic, "cuda"))


def test_without_triton_it_says_so(synthetic, monkeypatch):
    monkeypatch.setattr("fastcifar.pipelines.resident.find_spec", lambda name: None)
    assert "need Triton" in ResidentPipeline.refuses(request(synthetic, "cuda"), "")
    assert ResidentPipeline.refuses(request(synthetic), "") is None


@pytest.mark.gpu
def test_memory_stays_flat_over_epochs(synthetic):
    maker = device.OnDevice(request(synthetic, "cuda"))
    for k in range(3):
        list(maker.epoch(k))
    before = torch.cuda.memory_reserved()
    for k in range(50):
        epoch = maker.epoch(k)
        next(epoch)
        list(maker.epoch(k))
    assert torch.cuda.memory_reserved() == before


@pytest.mark.gpu
def test_two_streams_render_beside_each_other(synthetic):
    asked = [
        request(synthetic, "cuda", seed=seed, augment=RECIPES[name]) for seed, name in ((1, "erasing"), (2, "basic"))
    ]
    wanted = [list(device.OnDevice(each).epoch(2)) for each in asked]
    makers, streams = [device.OnDevice(each) for each in asked], [torch.cuda.Stream() for _ in asked]
    torch.cuda.synchronize()
    made = [[], []]
    for _ in range(5):
        for n, (maker, stream) in enumerate(zip(makers, streams, strict=True)):
            with torch.cuda.stream(stream):
                made[n] = list(maker.epoch(2))
    torch.cuda.synchronize()
    for one, other in zip(made, wanted, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a.images, b.images)


@interpreted
def test_an_epoch_s_order_takes_few_launches(synthetic, monkeypatch):
    """A kernel for the keys, a sort and a lookup, where Philox by torch's operations took 115."""
    maker = device.OnDevice(request(synthetic))
    kernels = []

    def keys(ids, clock):
        kernels.append("keys")
        return ids

    monkeypatch.setattr(gpu, "order_keys", keys)
    with Trace() as counted:
        maker.order(1)
        maker.clock(1)
    assert len(kernels) + len(counted.launches) < 10, counted.counts
    assert counted.counts["sort"] == 1


class Streams:
    """torch.cuda's streams, faked: which one is current, and what was told in which order."""

    def __init__(self, monkeypatch):
        self.told, self.now = [], "main"
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: self.stream("aside"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.stream(self.now))
        monkeypatch.setattr(torch.cuda, "stream", self.within)

    def stream(self, name):
        return SimpleNamespace(name=name, wait_stream=lambda other: self.told.append((name, "waits for", other.name)))

    @contextmanager
    def within(self, stream):
        self.now = stream.name
        yield
        self.now = "main"

    def make(self, epoch):
        self.told.append((self.now, "makes", epoch))
        return SimpleNamespace(
            epoch=epoch, record_stream=lambda stream: self.told.append((stream.name, "uses", epoch))
        )  # fmt: skip


def test_the_next_epoch_s_order_is_made_beside_this_one(monkeypatch):
    streams = Streams(monkeypatch)
    ahead = device.Ahead(torch.device("cuda"))
    assert ahead.of(3, streams.make).epoch == 3
    assert streams.told == [("main", "makes", 3), ("aside", "waits for", "main"), ("aside", "makes", 4)]
    streams.told.clear()
    assert ahead.of(4, streams.make).epoch == 4  # waited for by the device alone, and kept while that uses it
    assert streams.told == [("main", "waits for", "aside"), ("main", "uses", 4), ("aside", "waits for", "main"),
                            ("aside", "makes", 5)]  # fmt: skip
    streams.told.clear()
    assert ahead.of(9, streams.make).epoch == 9  # another epoch than was expected
    assert ("main", "makes", 9) in streams.told


@pytest.mark.gpu
def test_orders_that_are_made_ahead_are_the_requests(synthetic):
    asked = request(synthetic, "cuda")
    maker = device.OnDevice(asked)
    for epoch in (0, 1, 2, 2, 7, 8):
        assert np.array_equal(maker.order(epoch).cpu().numpy(), asked.order(epoch))


@pytest.mark.gpu
def test_an_epoch_waits_for_nothing(synthetic):
    maker = device.OnDevice(request(synthetic, "cuda"))
    list(maker.epoch(0))
    torch.cuda.synchronize()
    with watched_syncs("error"):
        for epoch in (1, 2):
            out = maker.empty(8)
            maker.render(maker.order(epoch), maker.clock(epoch), out)
