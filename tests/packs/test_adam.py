"""Adam of a stack: torch's own to rounding over 100 steps, with each run's settings and state."""

import importlib

import pytest
import torch
from support.packs import TWENTY
from support.runs import CPU, spec_of
from support.triton_kernels import interpreted
from torch import nn

from fastcifar.packs import stacked
from fastcifar.packs.adam import StackedAdam
from fastcifar.packs.feed import Feed
from fastcifar.packs.stacked import Stacked
from fastcifar.packs.stacks import Stacks
from fastcifar.training.batches import requests
from fastcifar.training.learner import Learner
from fastcifar.training.optimizers import optimizer_of
from fastcifar.training.schedule import Rate
from fastcifar.training.steps import Eager

adam = importlib.import_module("fastcifar.kernels.gpu.adam")

pytestmark = interpreted
STEPS = 100
RUNS = [("adam", "constant", 0.0), ("adamw", "cosine", 0.01), ("sgd", "constant", 0.01), ("adam", "onecycle", 0.01)]
CLOSE = 2e-6  # of values of the order of 1; torch's own steps in float32 and float64 differ by 1e-6


def small():
    """A network of all kinds of parameters, small, as the interpreter takes a millisecond for each program."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    return nn.Sequential(convolution, nn.Flatten(), nn.Linear(7, 5), nn.LayerNorm(5), nn.Linear(5, 3, bias=False))


def specs(dataset, runs=RUNS, **fields):
    return [
        spec_of(dataset, lr=1e-2 / (n + 1), optimizer=optimizer, schedule=schedule, l2=l2, seed=n, epochs=10, **fields)
        for n, (optimizer, schedule, l2) in enumerate(runs)
    ]


def learners(dataset, runs=RUNS):
    """Learners of a small network."""
    made = []
    for spec in specs(dataset, runs):
        rate, network = Rate(spec, CPU), small()
        optimizer = optimizer_of(list(network.parameters()), spec, rate.value)
        made.append(Learner(spec, network, optimizer, torch.amp.GradScaler("cpu", enabled=False), rate, CPU))
    return made


def gradients(generator, learner):
    """Random gradients of many magnitudes."""
    return {
        name: torch.randn(parameter.shape, generator=generator) * 10 ** (-2 * torch.rand((), generator=generator))
        for name, parameter in learner.model.named_parameters()
    }


@pytest.mark.whole
def test_a_hundred_steps_are_torchs_to_rounding(synthetic):
    """Weights, moments and step counts of every parameter of every run."""
    together, alone, initial = learners(synthetic), learners(synthetic), learners(synthetic)
    stacks = Stacks([learner.model for learner in together])
    ours, generator, largest = StackedAdam(stacks, together), torch.Generator().manual_seed(0), 0.0
    assert ours.runs == [0, 1, 3]
    for step in range(STEPS):
        if step % 10 == 0:
            ours.begin([step // 10 + 1] * len(RUNS), 10)
            for learner in alone:
                learner.rate.begin(step // 10 + 1, 10)
        found = [gradients(generator, learner) for learner in alone]
        ours.step({name: torch.stack([own[name] for own in found]) for name in found[0]})
        for learner, own in zip(alone, found, strict=True):
            for name, parameter in learner.model.named_parameters():
                parameter.grad = torch.empty_like(parameter).copy_(own[name])
            learner.rate.advance()
            learner.optimizer.step()
    alone[2] = initial[2]  # its own optimizer steps the run with SGD, which this one leaves as it is
    for one, other in zip(together, alone, strict=True):
        mine, its = one.state()[0], other.state()[0]
        assert mine.keys() == its.keys()
        for name, values in mine.items():
            assert values.shape == its[name].shape
            largest = max(largest, float((values - its[name]).abs().max()))
    print(f"largest difference after {STEPS} steps: {largest:.1e}")
    assert largest < CLOSE


@pytest.mark.parametrize("low", [torch.float32, torch.bfloat16])
def test_gradients_are_read_in_the_dtype_in_which_they_were_computed(synthetic, low):
    """A bfloat16 gradient steps as its float32 value does. Layers that are not cast keep float32."""
    generator, results = torch.Generator(), []
    for dtype in (torch.float32, low):
        made = learners(synthetic, RUNS[:2])
        stacks = Stacks([learner.model for learner in made], dtype)
        types = {name: leaf.dtype for name, leaf in stacks.leaves.items()}
        assert types == dict.fromkeys(types, dtype) | {"3.weight": torch.float32, "3.bias": torch.float32}
        ours = StackedAdam(stacks, made)
        ours.begin([1, 1], 3)
        for step in range(3):
            own = [gradients(generator.manual_seed(10 * step + n), learner) for n, learner in enumerate(made)]
            both = {name: torch.stack([each[name] for each in own]).to(low) for name in own[0]}
            ours.step({name: values.to(types[name]) for name, values in both.items()})
        results.append(stacks.views)
        again = stacks.cast.clone()
        stacks.refresh()
        for name, block in stacks.blocks.items():
            if types[name] == torch.bfloat16:  # the kernel's copy is torch's
                assert torch.equal(block.of(again, 2), block.of(stacks.cast, 2))
    for name, values in results[0].items():
        assert torch.equal(values, results[1][name]), name


def test_a_run_that_left_is_neither_read_nor_written(synthetic):
    made = learners(synthetic, RUNS[:2])
    stacks = Stacks([learner.model for learner in made])
    ours = StackedAdam(stacks, made)
    ours.begin([1, 1], 3)
    before = {name: view.clone() for name, view in stacks.views.items()}
    ours._settings.rows[1, adam.ACTIVE.value] = 0
    given = {name: torch.ones_like(view) for name, view in stacks.views.items()}
    for values in given.values():
        values[1] = torch.nan
    ours.step(given)
    for name, view in stacks.views.items():
        assert torch.equal(view[1], before[name][1])
        assert not torch.equal(view[0], before[name][0])
    counts = [made[0].state()[0]["adam.step.3.bias"], made[1].state()[0]["adamw.step.3.bias"]]
    assert [float(count) for count in counts] == [1, 0]


@pytest.mark.whole
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_with_the_kernel_a_stack_goes_on_and_its_runs_go_on_alone(synthetic, monkeypatch, precision):
    """An epoch in a stack, one in another stack, then a step alone: as with the runs' own optimizers."""
    monkeypatch.setattr(adam, "BLOCK", 1 << 15)  # few programs, and few empty places
    runs = [("adam", "constant", 0.01), ("sgd", "onecycle", 0.0), ("adamw", "cosine", 0.01)]
    results = []
    for kernel in (True, False):
        monkeypatch.setattr(stacked, "has_kernel", lambda device, kernel=kernel: kernel)
        made = [Learner.new(spec, 10, CPU) for spec in specs(synthetic, runs, precision=precision)]
        losses = []

        def trained(some, losses=losses):
            with Feed.open(
                "resident", synthetic, [requests(one.spec, CPU)[0] for one in some], [0] * len(some)
            ) as feed:
                losses.append(Eager(Stacked(some, feed.which), feed).epoch(some[0].epoch + 1).losses)
                for learner in some:
                    learner.epoch += 1
                return next(iter(feed.epoch(some[0].epoch + 1))), len(feed)

        trained(made)
        saved = [learner.snapshot() for learner in made]
        batch, steps = trained(made[::2])
        for learner, state in zip(made, saved, strict=True):
            learner.restore(*state)
            learner.begin(steps)
            losses.append(learner.step(type(batch)(*(part[0] for part in batch))).view(1, 1).double())
        results.append((torch.cat([part.flatten() for part in losses]), [learner.state()[0] for learner in made]))
    (ours, states), (theirs, others) = results
    torch.testing.assert_close(ours, theirs, rtol=TWENTY if precision == "float32" else 0.1, atol=0)
    torch.testing.assert_close(ours[:3], theirs[:3], rtol=1e-5, atol=0)
    for one, other in zip(states, others, strict=True):
        assert one.keys() == other.keys()
        counts = [name for name in one if ".step." in name]
        assert all(float(one[name]) == float(other[name]) for name in counts)
