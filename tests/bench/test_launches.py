"""What a traced step counts of our Triton kernels: the operations of their products of matrices, and their bytes."""

import pytest
import torch
from support.runs import spec_of

pytest.importorskip("triton", reason="Triton is not installed")
from fastcifar.kernels.gpu import attention, linear

from bench.arithmetic import BANDWIDTH, LAUNCH, LAUNCHES_OF_A_GROUP, MULTIPROCESSORS, PEAK, seconds
from bench.lib.launches import META, MULTIPLIED, Launch, Trace, traced, without_a_device
from fastcifar.models.vit import HEADS, PATCHES

BATCH, RUNS = 16, 2


def steps(dataset, model, *ways):
    """Return the trace of a step of RUNS runs for each way."""
    specs = [spec_of(dataset, model=model, seed=n, batch_size=BATCH, precision="bfloat16") for n in range(RUNS)]
    return [traced(specs, dataset, way) for way in ways]


def empty(*shape):
    return torch.empty(shape, dtype=torch.bfloat16, device=META)


def test_each_kernel_of_the_table_is_launched_in_a_step(synthetic):
    fused = [*steps(synthetic, "cnn", "fused"), *steps(synthetic, "vit", "fused")]
    launched = {launch.name: launch.flops for trace in fused for launch in trace.launches}
    assert all(launched[name] > 0 for name in MULTIPLIED)


def test_the_cnn_takes_as_many_operations_in_each_way(synthetic):
    grouped, im2col, fused = steps(synthetic, "cnn", "grouped", "im2col", "fused")
    assert fused.flops == grouped.flops
    # im2col has rows of 32 values in place of 27, for 16 * 16 outputs of 32 channels, forward and for the weights
    assert im2col.flops - grouped.flops == RUNS * 2 * (2 * BATCH * 16 * 16 * 32 * (32 - 27))


def test_fused_attention_takes_one_product_more(synthetic):
    """Its backward computes the weights again. All other products are the same."""
    grouped, fused = steps(synthetic, "vit", "grouped", "fused")
    layers = fused.counts["write_attention"]
    tokens, size = PATCHES + 1, 30 // HEADS
    assert fused.flops - grouped.flops == layers * RUNS * BATCH * HEADS * 2 * tokens * tokens * size


def test_each_argument_is_read_or_written_once():
    """The gradient of a linear layer's inputs has no bias: the kernel is given the weights in its place."""
    x, weight, upstream = (empty(2, *shape) for shape in ((7, 8), (4, 8), (7, 4)))
    with without_a_device(trace := Trace()):
        linear.linear_gradients(x, weight, upstream, of_x=True)
        attention.attention(packed := empty(3, 5, 3, 6, 8))
    assert [launch.moved for launch in trace.launches] == [
        2 * (x.numel() + weight.numel() + upstream.numel()),
        2 * (x.numel() + upstream.numel()) + 4 * 2 * (8 + 1) * 4,  # the sums of the one chunk are float32
        (4 + 2) * 2 * (8 + 1) * 4,
        2 * (packed.numel() + packed.numel() // 3),
    ]


def test_the_time_of_a_launch():
    assert seconds(Launch("short", 1, 1)) == LAUNCH
    assert seconds(Launch("convolution", 1, 1, groups=24)) == LAUNCHES_OF_A_GROUP * 24 * LAUNCH
    for moved, flops, whole in ((10**9, 0, 10**9 / BANDWIDTH), (0, 10**12, 10**12 / PEAK)):
        assert seconds(Launch("few blocks", moved, flops, MULTIPROCESSORS // 4)) == pytest.approx(4 * whole)
        assert seconds(Launch("blocks", moved, flops, 2 * MULTIPROCESSORS)) == pytest.approx(whole)
