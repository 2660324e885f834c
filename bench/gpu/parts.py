"""Time the parts of a pack's step alone, forward and backward, each in every way that trains them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bench.gpu.notes import Notes
from bench.lib.device import repeated, replayed, times_to_last
from fastcifar.models.cnn import CNN
from fastcifar.models.dropout import Noise
from fastcifar.models.vit import DIM, PATCHES, EncoderLayer, Form
from fastcifar.packs.convolution import convolving
from fastcifar.packs.fused.layers import fusing
from fastcifar.packs.fused.norm import ShortNorm
from fastcifar.packs.linear import multiplying
from fastcifar.system.measure import alternate

RUNS, BATCH = 24, 128
TURN_SECONDS, REPEATS = 0.03, 7
AGAIN = 20  # repetitions of a backward pass whose bits are compared


class Part(NamedTuple):
    """A layer of R networks in one way, with inputs of its own."""

    name: str
    way: str
    layer: nn.Module
    """On torch's meta device."""
    inputs: tuple[int, ...]
    """The shape of a run's inputs."""
    shared: bool
    """Whether the runs see the same inputs, and their gradient is not needed."""


class Activated(nn.Module):
    """A convolution of the CNN with its ReLU."""

    def __init__(self, network: CNN, number: int) -> None:
        super().__init__()
        self.convolution, self._network = network.convolutions[number], [network]

    def forward(self, x: Tensor) -> Tensor:
        return self._network[0]._activated(self.convolution, x)


class Attention(nn.Module):
    """An encoder layer's attention, with its projections."""

    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        self.layer = layer
        for name in ("norm1", "norm2", "widen", "narrow"):  # not of attention
            setattr(layer, name, nn.Identity())

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        return self.layer._attend(x, noise)


def parts(notes: Notes) -> None:
    """Write a row for each part, and one for each that has not the same bits each time."""
    runs, batch = (2, 2) if notes.tiny else (RUNS, BATCH)
    for part in _parts(batch):
        about = f"{part.name}, {part.way}, {runs} runs"
        with notes.trying("part", about):
            notes.release()
            step = _step(part, runs, notes.device)
            first, again = step(), [step() for _ in range(2 if notes.tiny else AGAIN)]
            same = all(torch.equal(one, other) for each in again for one, other in zip(first, each, strict=True))
            us, least, most = _timed(notes, step)
            says = f"{about}: {us:,.1f} us forward and backward, bits {'equal' if same else 'DIFFER'}"
            notes.row("part", says, part=part.name, way=part.way, runs=runs, us=us, least=least, most=most, same=same)


def _parts(batch: int) -> Iterator[Part]:
    for n, (side, channels) in enumerate([(32, 3), (16, 32), (8, 64)]):
        for way in ("grouped", "im2col", "fused"):
            for shared in (True, False) if n == 0 else (False,):
                with torch.device("meta"):
                    network = convolving(CNN(10, 0.0), way)
                if way == "fused":
                    fusing(network, on_gpu=True)
                name = f"convolution {n + 1}, {'the same images' if shared else 'images of their own'}"
                yield Part(name, way, Activated(network, n), (batch, channels, side, side), shared)
    for way in ("grouped", "fused"):
        with torch.device("meta"):
            layer = multiplying(EncoderLayer(Form(), 0))
        if way == "fused":
            fusing(layer, on_gpu=True)
        yield Part("linear layer, 30 to 120", way, layer.widen, (batch, PATCHES + 1, DIM), False)
        yield Part("LayerNorm", way, layer.norm1, (batch, PATCHES + 1, DIM), False)
        yield Part("attention", way, Attention(layer), (batch, PATCHES + 1, DIM), False)


def _step(part: Part, runs: int, device: torch.device) -> Callable[[], list[Tensor]]:
    """Return a function that makes the result and the gradients of a part, in bfloat16; float32 in the interpreter."""
    low = torch.bfloat16 if device.type == "cuda" else torch.float32
    generator = torch.Generator(device).manual_seed(0)

    def made(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        tensor = torch.randn(shape, device=device, generator=generator).to(dtype)
        if isinstance(part.layer, Activated) and len(shape) > 2:  # images, and a convolution's weights
            tensor = tensor.movedim(-3, -1).contiguous().movedim(-1, -3)
        return tensor.requires_grad_()

    norm = isinstance(part.layer, nn.LayerNorm | ShortNorm)  # its weights stay in float32
    own = {
        name: made((runs, *value.shape), torch.float32 if norm else low)
        for name, value in part.layer.named_parameters()
    }
    inputs = made((*(() if part.shared else (runs,)), *part.inputs), low).detach().requires_grad_(not part.shared)
    wanted = [*own.values(), *([] if part.shared else [inputs])]
    forward = vmap(lambda own, x: functional_call(part.layer, own, (x,)), in_dims=(0, None if part.shared else 0))
    upstream = torch.randn_like(forward(own, inputs))

    def step() -> list[Tensor]:
        out = forward(own, inputs)
        return [out.detach(), *torch.autograd.grad(out, wanted, upstream)]

    return step


def _timed(notes: Notes, step: Callable[[], list[Tensor]]) -> tuple[float, float, float]:
    """Return median, least and most microseconds of a step, recorded as a CUDA graph on a GPU."""
    call: Callable[[], object] = replayed(lambda: step()[0]) if notes.cuda else step
    times = 1 if notes.tiny else times_to_last(call, TURN_SECONDS, notes.device)
    timing = alternate({"": repeated(call, times)}, 1 if notes.tiny else REPEATS, device=str(notes.device))[""]
    median, least, most = (1e6 * seconds / times for seconds in (timing.median, timing.min, timing.max))
    return median, least, most
