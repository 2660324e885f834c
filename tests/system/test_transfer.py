"""Sending batches to a device: on a pretended one that punishes whoever does not wait, and on a true one."""

import threading

import pytest
import torch
from support.pretend_cuda import PretendDevice, Stream

from fastcifar.pipeline import Batch
from fastcifar.system.buffers import Buffers
from fastcifar.system.transfer import Transfer, pinned_images

CPU = torch.device("cpu")


@pytest.fixture
def gpu(monkeypatch):
    return PretendDevice().installed(monkeypatch)


def numbered(number, images=None):
    """A batch of four, full of its number; in ``images``, or in memory that is not pinned."""
    images = torch.empty(4, 8, 8, 3).permute(0, 3, 1, 2) if images is None else images
    return Batch(images.fill_(number), torch.full((4,), number), torch.full((4,), -number))


def numbers(batches):
    """The values that each part of each batch has."""
    return [tuple(sorted(set(part.flatten().tolist())) for part in batch) for batch in batches]


def wanted(*all_of):
    return [([float(number)], [number], [-number]) for number in all_of]


def test_on_the_cpu_a_batch_comes_back_as_it_is():
    batch, transfer = numbered(1), Transfer(CPU)
    got = transfer.send(batch).received()
    assert all(part is given for part, given in zip(got, batch, strict=True))
    transfer.close()
    assert transfer.send(batch).received().images is batch.images


def test_the_consumers_stream_waits_for_the_copy_and_the_host_for_nothing(gpu):
    transfer, seen = Transfer(gpu.device), []
    for number in range(1, 6):
        gpu.read(transfer.send(numbered(number, pinned_images(4, 8, torch.float32))).received(), seen)
    assert seen == []  # the device has not come to any of it
    gpu.main.run()
    assert numbers(seen) == wanted(*range(1, 6))
    assert gpu.waits == []


def test_copies_are_on_one_stream_that_is_not_the_consumers(gpu):
    transfer, seen, aside = Transfer(gpu.device), [], Stream(gpu)
    with gpu.on(aside):
        gpu.read(transfer.send(numbered(1)).received(), seen)
    gpu.read(transfer.send(numbered(2)).received(), seen)
    assert len(set(gpu.copied_on)) == 1
    assert not set(gpu.copied_on) & {gpu.main, aside}
    aside.run()
    gpu.main.run()
    assert numbers(seen) == wanted(1, 2)


def test_sent_ahead_a_copy_needs_nothing_of_the_consumers_stream(gpu):
    """Three are under way before the first is received, and done whatever the consumer's stream is at."""
    transfer = Transfer(gpu.device)
    ahead = [transfer.send(numbered(number)) for number in (1, 2, 3)]
    gpu.launch(lambda: pytest.fail("the consumer's work was waited for"))
    ahead[2].copied.happen()
    assert numbers(sent.batch for sent in ahead) == wanted(1, 2, 3)


def test_memory_of_the_device_outlives_the_work_of_the_consumers_stream(gpu):
    batch = Transfer(gpu.device).send(numbered(1)).received()
    assert {(part.data_ptr(), gpu.main) for part in batch} <= gpu.recorded


def test_pinned_memory_is_kept_until_it_was_copied_and_no_longer(gpu):
    transfer, seen = Transfer(gpu.device), []
    for number in range(1, 51):  # the device comes after: three parts of as many batches are held as are under way
        gpu.read(transfer.send(numbered(number, pinned_images(4, 8, torch.float32))).received(), seen)
        assert gpu.pinned_arrays <= 3
        gpu.main.run()
    for number in range(51, 56):  # it does not: all are held
        gpu.read(transfer.send(numbered(number, pinned_images(4, 8, torch.float32))).received(), seen)
    assert gpu.pinned_arrays == 15
    gpu.main.run()
    assert numbers(seen) == wanted(*range(1, 56))
    assert gpu.waits == []


def test_buffers_are_not_taken_again_before_they_were_copied(gpu):
    transfer, buffers, seen = Transfer(gpu.device), Buffers(), []

    def filled(number):
        images = buffers.images(4, 8, torch.float32)
        gpu.register(images)
        address = images.data_ptr()
        gpu.read(transfer.send(numbered(number, images)).received(), seen)
        return address

    under_way = [filled(1), filled(2)]
    assert under_way[0] != under_way[1]
    gpu.main.run()
    filled(3)  # by now it is noticed that both are done
    assert filled(4) in under_way
    gpu.main.run()
    assert numbers(seen) == wanted(1, 2, 3, 4)


def test_what_is_not_pinned_is_pinned_before_it_is_copied(gpu):
    transfer, seen, given = Transfer(gpu.device), [], numbered(1)
    gpu.read(transfer.send(given).received(), seen)
    for part in given:
        part.fill_(9)  # the caller may go on with it
    gpu.main.run()
    assert numbers(seen) == wanted(1)
    assert gpu.waits == []


def test_closing_waits_for_the_copies_under_way_and_keeps_nothing(gpu):
    transfer, seen = Transfer(gpu.device), []
    gpu.read(transfer.send(numbered(1)).received(), seen)
    transfer.send(numbered(2))  # nobody receives this one: the epoch was left
    assert gpu.pinned_arrays == 6
    transfer.close()
    assert gpu.waits == ["an event", "an event"]
    assert gpu.pinned_arrays == 0
    transfer.close()
    gpu.main.run()
    assert numbers(seen) == wanted(1)


def test_many_threads_may_send(gpu):
    transfer, sent = Transfer(gpu.device), {}

    def work(first):
        for number in range(first, 41, 4):
            sent[number] = transfer.send(numbered(number))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = []
    for number in range(1, 41):
        gpu.read(sent[number].received(), seen)
    gpu.main.run()
    assert numbers(seen) == wanted(*range(1, 41))
    assert gpu.main not in gpu.copied_on


def test_pinned_images_are_channels_last(gpu):
    images = pinned_images(2, 4, torch.bfloat16)
    assert (images.shape, images.dtype) == ((2, 3, 4, 4), torch.bfloat16)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert gpu.is_pinned(images)


@pytest.mark.gpu
def test_on_a_device_copies_pass_by_what_it_computes_and_arrive():
    """The consumer's stream is busy for half a second; until then every copy is done, and none of its reading."""
    transfer, seen = Transfer(torch.device("cuda")), []
    # allocating and loading would wait for the device, so that is done before
    ahead = [transfer.send(numbered(0, pinned_images(4, 8, torch.float32))) for _ in range(20)]
    warm = [part.clone() for sent in ahead for part in sent.received()]
    torch.cuda.synchronize()
    del ahead, warm
    torch.cuda._sleep(1_000_000_000)
    busy = torch.cuda.Event()
    busy.record()
    for number in range(1, 21):
        sent = transfer.send(numbered(number, pinned_images(4, 8, torch.float32)))
        got = sent.received()
        seen.append([part.clone() for part in got])
    sent.copied.synchronize()
    assert not busy.query()
    torch.cuda.synchronize()
    assert numbers(seen) == wanted(*range(1, 21))
    assert got.images.device.type == "cuda"
    assert got.images.is_contiguous(memory_format=torch.channels_last)
    transfer.close()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_on_a_device_memory_that_is_used_again_is_not_mixed_up(dtype):
    """Large batches, dropped as soon as they were sent, on a device that comes after."""
    transfer, wrong = Transfer(torch.device("cuda")), torch.zeros((), dtype=torch.int64, device="cuda")
    for number in range(60):
        images = pinned_images(64, 128, dtype).fill_(number)
        batch = transfer.send(Batch(images, torch.full((64,), number), torch.full((64,), -number))).received()
        del images
        for part, value in zip(batch, (number, number, -number), strict=True):
            wrong += (part != value).sum()
        del batch, part
    assert wrong.item() == 0
    transfer.close()
