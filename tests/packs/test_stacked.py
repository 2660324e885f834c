"""A stack's steps are those of its runs alone: bit by bit where nothing rounds otherwise, elsewhere to rounding."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.packs import FIRST, TWENTY, some_specs
from support.runs import CPU, spec_of
from torch.utils._python_dispatch import TorchDispatchMode

from fastcifar.models.build import images_at_once
from fastcifar.models.dropout import Dropout, Noise
from fastcifar.models.vit import ViT
from fastcifar.packs import ways
from fastcifar.packs.feed import Feed
from fastcifar.packs.stacked import Stacked, can_stack
from fastcifar.pipeline import Batch, Renderer
from fastcifar.system import devices
from fastcifar.training.batches import open_pipelines, requests
from fastcifar.training.learner import Learner
from fastcifar.training.steps import Captured, Eager

STEPS = 20


def stacked(specs, dataset, way="grouped", device=CPU):
    """(stack, feed) of new learners."""
    learners = [Learner.new(spec, len(dataset.classes), device) for spec in specs]
    feed = Feed.open("resident", dataset, [requests(spec, device)[0] for spec in specs], [0] * len(specs))
    return Stacked(learners, feed.which, way), feed


def solo(spec, dataset, device=CPU):
    learner = Learner.new(spec, len(dataset.classes), device)
    training, validation = open_pipelines(spec, dataset, device)
    validation.close()
    return learner, training


def losses(steps):
    """Of the first STEPS steps, over as many epochs as they take: (STEPS,) or (STEPS, R)."""
    found, k = [], 0
    while sum(map(len, found)) < STEPS:
        k += 1
        found.append(steps.epoch(k).losses)
        for learner in getattr(steps._learner, "_learners", [steps._learner]):
            learner.epoch = k
    return torch.cat(found)[:STEPS]


@pytest.mark.parametrize("number", range(3))
def test_weights_orders_pixels_and_masks_are_those_of_the_solo_run_bit_by_bit(synthetic, number):
    specs = some_specs(synthetic, "cnn", number)
    stack, feed = stacked(specs, synthetic)
    with feed:
        for n, spec in enumerate(specs):
            learner, alone = solo(spec, synthetic)
            for name, value in learner.model.state_dict().items():
                assert torch.equal(stack._stacks.views[name][n], value)
            with alone:
                for together, batch in zip(feed.epoch(2), alone.epoch(2), strict=True):
                    for mine, own in zip(together, batch, strict=True):
                        assert torch.equal(mine[feed.which[n]], own)
            (layer,) = (module for module in learner.model.modules() if isinstance(module, Dropout))
            expected = torch.ones(16, 128)
            if spec.dropout:
                expected = Noise.of(spec.seed, 2, batch.ids).kept(spec.dropout, layer.layer, 128)
            masks = stack._masks(feed.clock(2), together.ids)
            assert torch.equal(masks[layer.layer][n], expected) if masks else not spec.dropout


CASES = [
    ("mlp_s", "grouped", 0), ("cnn", "grouped", 1), ("cnn", "im2col", 2), ("cnn", "grouped", 3), ("vit", "grouped", 4),
    ("vit", "fused", 4), ("vit_as_run", "grouped", 5),
]  # fmt: skip


@pytest.mark.whole
@pytest.mark.parametrize(
    ("model", "way", "number", "device"),
    [*((*case, "cpu") for case in CASES),
     *(pytest.param(*case, "cuda", marks=pytest.mark.gpu) for case in [*CASES, ("cnn", "fused", 1)])],
)  # fmt: skip
def test_losses_are_the_solo_runs_to_rounding(synthetic, model, way, number, device):
    """Step by step, over few steps: later on Adam makes of a rounding a difference of some percent."""
    specs, device = some_specs(synthetic, model, number, 3), devices.device_of(device)
    stack, feed = stacked(specs, synthetic, way, device)
    with feed:
        together = losses(Eager(stack, feed)).cpu()
    alone = []
    for spec in specs:
        learner, training = solo(spec, synthetic, device)
        with training:
            alone.append(losses(Eager(learner, training)).cpu())
    relative = ((together - torch.stack(alone, 1)) / torch.stack(alone, 1)).abs()
    print(f"{model} {way}: first {relative[0].max():.1e}, of {STEPS} {relative.max():.1e}")
    assert relative[0].max() <= FIRST
    assert relative.max() <= TWENTY


@pytest.mark.whole
@pytest.mark.parametrize(("model", "way", "number"), CASES)
def test_in_bfloat16_every_layers_types_are_a_solo_runs(synthetic, model, way, number):
    specs = [replace(spec, precision="bfloat16") for spec in some_specs(synthetic, model, number, 3)]
    stack, feed = stacked(specs, synthetic, way)
    types = {}

    def noting(network, to):
        for name, module in network.named_modules():
            module.register_forward_hook(lambda _m, _i, out, name=name: to.update({name: out.dtype}))

    noting(stack._skeleton, mine := {})
    with feed:
        together = losses(Eager(stack, feed))
    alone = []
    for spec in specs:
        learner, training = solo(spec, synthetic)
        noting(learner.model, types)
        with training:
            alone.append(losses(Eager(learner, training)))
    assert mine == {name: types[name] for name in mine}
    unused = {name.rpartition(".")[2] for name in types.keys() - mine.keys()}
    assert unused == ({"queries_keys_values", "drop_weights", "attended"} if way == "fused" else set())
    assert torch.bfloat16 in mine.values()
    relative = ((together - torch.stack(alone, 1)) / torch.stack(alone, 1)).abs()
    assert relative[0].max() <= 2**-7  # a unit in bfloat16's last place
    assert relative.max() <= 0.1


@pytest.mark.whole
def test_runs_of_one_stack_may_differ_in_optimizer_schedule_and_smoothing(synthetic):
    ways = [("adam", "cosine", 0.1), ("sgd", "onecycle", 0.0), ("adamw", "constant", 0.3)]
    specs = [
        spec_of(synthetic, lr=1e-3, optimizer=optimizer, schedule=schedule, smoothing=smoothing)
        for optimizer, schedule, smoothing in ways
    ]
    stack, feed = stacked(specs, synthetic)
    with feed:
        together = losses(Eager(stack, feed))
    for n, spec in enumerate(specs):
        learner, training = solo(spec, synthetic)
        with training:
            alone = losses(Eager(learner, training))
        assert torch.allclose(together[:1, n], alone[:1], rtol=FIRST, atol=0)
        assert torch.allclose(together[:, n], alone, rtol=TWENTY, atol=0)


@pytest.mark.whole
@pytest.mark.parametrize("way", ways.STACKED_BY_MODEL["cnn"])
def test_neighbours_change_nothing(synthetic, way):
    specs = some_specs(synthetic, "cnn", 7, 4)

    def of(chosen):
        stack, feed = stacked(chosen, synthetic, way)
        with feed:
            return dict(zip(chosen, losses(Eager(stack, feed)).T, strict=True))

    whole = of(specs)
    for others in (specs[::-1], specs[:2], specs[1:], [*specs, specs[0].with_seed(9)]):
        for spec, values in of(others).items():
            if spec in whole:
                assert torch.allclose(values[:1], whole[spec][:1], rtol=FIRST, atol=0)
                assert torch.allclose(values, whole[spec], rtol=TWENTY, atol=0)


def again(rehearsal, work):
    """A CUDA graph's twin: rehearsals, one recording that does the work, then the work at each replay."""
    rehearsal()
    return work


class OnHost(Renderer):
    """A renderer of host memory, from a pipeline's batches."""

    def __init__(self, pipeline):
        self._pipeline = pipeline

    def order(self, epoch):
        return torch.from_numpy(self._pipeline.request.order(epoch).copy())

    def clock(self, epoch):
        return self._pipeline.clock(epoch)

    def empty(self, n):
        images = torch.empty((n, 32, 32, 3)).permute(0, 3, 1, 2)
        return Batch(images, *(torch.empty(n, dtype=torch.int64) for _ in range(2)))

    def render(self, order, clock, out):
        seed, epoch, n = clock.tolist()
        size = len(out.ids)
        ids = order[n * size : (n + 1) * size]
        request = self._pipeline.request
        from fastcifar.kernels import cpu

        draws = cpu.draw(request.augment, seed, epoch, ids.numpy())
        images = torch.from_numpy(np.array(request.dataset.images("train")))[ids]
        out.images.copy_(cpu.apply(images, draws, request.augment))
        out.labels.copy_(torch.from_numpy(np.array(request.dataset.labels("train"), np.int64))[ids])
        out.ids.copy_(ids)


@pytest.mark.whole
def test_a_recorded_step_of_a_pack_gives_the_same(digits):
    specs = [spec_of(digits, lr=1e-3, seed=seed, recipe="basic") for seed in (0, 0, 1)]
    specs[1] = spec_of(
        digits, lr=1e-4, recipe="basic", dropout=0.0, optimizer="sgd", schedule="onecycle", smoothing=0.1
    )
    results = []
    for record in (None, again):
        stack, feed = stacked(specs, digits)
        with feed:
            if record:
                for source in feed._sources:
                    source.pipeline.renderer = lambda pipeline=source.pipeline: OnHost(pipeline)
                steps = Captured(stack, feed.renderer(), record)
            else:
                steps = Eager(stack, feed)
            results.append(torch.cat([steps.epoch(k).losses for k in (1, 2)]))
    assert results[0].shape == (2 * 75, 3)
    assert torch.equal(*results)


def test_what_cannot_be_stacked_is_said(digits):
    assert "scales its gradients" in can_stack(spec_of(digits, precision="float16"))
    assert "muon's steps in bfloat16" in can_stack(spec_of(digits, optimizer="muon"))
    assert can_stack(spec_of(digits)) is None
    assert ways.possible(spec_of(digits, precision="float16"), CPU) == ["serial"]


def test_no_product_has_more_matrices_than_cuda_takes(synthetic, monkeypatch):
    """22 ViTs that validate on 512 images would have 67,584 in one: so they take fewer images at once, to the same."""
    assert images_at_once(ViT(10), torch.device("cuda"), 22) * 22 * ViT.products <= 65_535
    assert images_at_once(ViT(10), CPU, 2) >= 512
    specs = [spec_of(synthetic, model="vit", dropout=0.5, seed=seed) for seed in range(2)]
    whole, feed = stacked(specs, synthetic)
    monkeypatch.setattr("fastcifar.packs.stacked.images_at_once", lambda model, device, runs: 7)
    parts, _ = stacked(specs, synthetic)
    products, bmm = [], torch.ops.aten.bmm.default

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            if function is bmm:
                products.append(len(arguments[0]))
            return function(*arguments, **(named or {}))

    with feed:
        batch = next(iter(feed.epoch(1)))
    masks = whole._masks(feed.clock(1), batch.ids)
    with torch.no_grad():
        expected = whole._forward(whole._stacks.views, batch.images, masks)
        with Products():
            got = parts._forward(parts._stacks.views, batch.images, masks)
    torch.testing.assert_close(got, expected)
    assert max(products) == 2 * 7 * ViT.products
