"""Runs that train together: each as if it were alone, whoever trains beside it."""

import gc
import math
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.runs import CPU, left_by, spec_of, untimed
from torch.utils._python_dispatch import TorchDispatchMode

from fastcifar.errors import DoesNotFit, FastcifarError
from fastcifar.models import images_at_once
from fastcifar.models.dropout import Dropout, Noise
from fastcifar.models.vit import ViT
from fastcifar.packs import ways
from fastcifar.packs.convolution import WAYS as CONVOLUTIONS
from fastcifar.packs.feed import Feed
from fastcifar.packs.stacked import Stacked, can_stack
from fastcifar.packs.training import train_stacked
from fastcifar.packs.ways import Stopped, train_pack
from fastcifar.pipeline import Batch
from fastcifar.runs.directory import RunDirectory
from fastcifar.system import devices
from fastcifar.training.batches import open_pipelines, requests
from fastcifar.training.learner import Learner
from fastcifar.training.loop import train
from fastcifar.training.steps import Captured, Eager

FIRST, TWENTY = 1e-5, 1e-2  # how far float32 losses may be from a solo run's, relatively
STEPS = 20


def some_specs(dataset, model, number, count=4):
    """Runs that differ in everything that runs of a pack may differ in, drawn by ``number``."""
    dice = np.random.default_rng(number)
    protocol = str(dice.choice(["sound", "as-run"]))
    return [
        spec_of(
            dataset,
            model=model,
            protocol=protocol,
            recipe=str(dice.choice(["none", "basic", "erasing"])),
            seed=int(dice.integers(3)),
            lr=float(10 ** dice.uniform(-5, -2.5)),
            l2=float(dice.choice([0.0, 0.01])),
            dropout=float(dice.choice([0.0, 0.3, 0.5])),
        )
        for _ in range(count)
    ]


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
        if hasattr(steps._learner, "epoch"):
            steps._learner.epoch += 1
    return torch.cat(found)[:STEPS]


@pytest.mark.parametrize("number", range(3))
def test_weights_orders_pixels_and_masks_are_those_of_the_solo_run_bit_by_bit(synthetic, number):
    specs = some_specs(synthetic, "cnn", number)
    stack, feed = stacked(specs, synthetic)
    with feed:
        for n, spec in enumerate(specs):
            learner, alone = solo(spec, synthetic)
            for name, value in learner.model.state_dict().items():
                assert torch.equal(stack._stacks[name][n], value)
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
    ("vit_as_run", "grouped", 5),
]  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(("model", "way", "number"), CASES)
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
    assert mine == types
    assert torch.bfloat16 in mine.values()
    relative = ((together - torch.stack(alone, 1)) / torch.stack(alone, 1)).abs()
    assert relative[0].max() <= 2**-7  # a unit in bfloat16's last place
    assert relative.max() <= 0.1


@pytest.mark.parametrize("way", CONVOLUTIONS)
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


def pack(specs, dataset, out, way="grouped", watch=lambda spec, line: None):
    """By run: summary or error, and what train.train's tests compare: lines and weights."""
    outcomes = {}
    train_stacked(specs, dataset, out, CPU, way, watch, outcomes.__setitem__)
    return {spec: (outcomes[spec], *left_by(spec, out)) for spec in specs}


def close(lines, others):
    """Whether two runs' lines are those of the same run to rounding that Adam has magnified."""
    assert [line["epoch"] for line in lines] == [line["epoch"] for line in others]
    return all(
        line["train_loss"] == pytest.approx(other["train_loss"], rel=TWENTY)
        for line, other in zip(lines, others, strict=True)
    )


@pytest.mark.parametrize("protocol", ["sound", "as-run"])
def test_a_packs_runs_are_the_solo_runs(digits, tmp_path, protocol):
    specs = [
        spec_of(digits, batch_size=64, lr=1e-3, epochs=2, protocol=protocol, seed=seed, recipe=recipe, dropout=dropout)
        for seed, recipe, dropout in ((0, "basic", 0.5), (1, "basic", 0.0), (0, "erasing", 0.5))
    ]
    for spec, (summary, lines, _) in pack(specs, digits, tmp_path / "together").items():
        alone = train(spec, digits, tmp_path / "alone", CPU)
        assert close(lines, left_by(spec, tmp_path / "alone")[0])
        assert summary.keys() == alone.keys()
        assert abs(summary["val_accuracy"] - alone["val_accuracy"]) < 0.05
        assert summary["mode"] == "grouped"


def test_it_learns_as_well_as_alone(digits, tmp_path):
    specs = [spec_of(digits, batch_size=64, lr=3e-3, epochs=5, seed=seed) for seed in range(3)]
    together = [summary["val_accuracy"] for summary, *_ in pack(specs, digits, tmp_path).values()]
    alone = [train(spec, digits, tmp_path / "alone", CPU)["val_accuracy"] for spec in specs]
    spread = max(np.std(alone, ddof=1), 0.02)
    assert min(together) > 0.8
    assert abs(np.mean(together) - np.mean(alone)) < 2 * spread


@pytest.mark.parametrize("model", ["cnn", "mlp_s", "vit"])
def test_a_run_that_diverges_leaves_and_harms_nobody(synthetic, tmp_path, model):
    good = [spec_of(synthetic, model=model, lr=1e-3, seed=seed) for seed in range(2)]
    wild = spec_of(synthetic, model=model, lr=1e3, seed=5)
    found = pack([good[0], wild, good[1]], synthetic, tmp_path / "with")
    without = pack(good, synthetic, tmp_path / "without")
    assert found[wild][0]["status"] == "diverged"
    assert len(found[wild][1]) < wild.epochs
    for spec in good:
        assert found[spec][0]["status"] == "finished"
        assert len(found[spec][1]) == spec.epochs
        assert close(found[spec][1], without[spec][1])


class Interrupted(Exception):
    pass


def interrupting(after):
    """A watch that gives up when it has seen so many epochs."""
    seen = iter(range(after))

    def watch(spec, line):
        if next(seen, None) is None:
            raise Interrupted

    return watch


@pytest.mark.parametrize("after", [0, 1, 4])
def test_interrupted_it_goes_on_to_the_same_end(synthetic, tmp_path, after):
    specs = some_specs(synthetic, "cnn", 11, 3)
    whole = pack(specs, synthetic, tmp_path / "whole")
    with pytest.raises(Interrupted):
        pack(specs, synthetic, tmp_path / "cut", watch=interrupting(after))
    again = pack(specs, synthetic, tmp_path / "cut")
    for spec in specs:
        assert again[spec][1:] == whole[spec][1:]


def test_runs_at_different_epochs_go_on_together_and_alone(synthetic, tmp_path):
    specs = [spec_of(synthetic, lr=1e-3, seed=seed, recipe="basic") for seed in range(2)]
    expected = pack(specs, synthetic, tmp_path / "whole")
    with pytest.raises(Interrupted):  # the first alone: two epochs
        train(specs[0], synthetic, tmp_path / "mixed", CPU, watch=lambda line: interrupt_at(2, line))
    mixed = pack(specs, synthetic, tmp_path / "mixed")
    for spec in specs:
        assert close(mixed[spec][1], expected[spec][1])
    with pytest.raises(Interrupted):
        pack(specs, synthetic, tmp_path / "alone", watch=lambda spec, line: interrupt_at(3, line))
    for spec in specs:  # begun in a pack, ended without
        train(spec, synthetic, tmp_path / "alone", CPU)
        assert close(left_by(spec, tmp_path / "alone")[0], expected[spec][1])


def interrupt_at(epoch, line):
    if line["epoch"] == epoch:
        raise Interrupted


def test_out_of_memory_halves_the_pack(synthetic, tmp_path, monkeypatch):
    specs = [spec_of(synthetic, lr=1e-3, seed=seed) for seed in range(4)]
    whole = pack(specs, synthetic, tmp_path / "whole")
    step, said, outcomes = Stacked.step, [], {}

    def scarce(self, *arguments, **options):
        if self.shape[0] > 2:
            raise torch.OutOfMemoryError("no memory for so many")
        return step(self, *arguments, **options)

    monkeypatch.setattr(Stacked, "step", scarce)
    train_stacked(specs, synthetic, tmp_path, CPU, "grouped", lambda *_: None, outcomes.__setitem__, said.append)
    assert "4 runs of cnn do not fit on cpu together: now 2 at a time" in said[0]
    for spec in specs:
        assert outcomes[spec]["status"] == "finished"
        assert close(left_by(spec, tmp_path)[0], whole[spec][1])
    monkeypatch.setattr(Stacked, "step", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("not enough memory")))
    train_stacked(specs[:2], synthetic, tmp_path / "none", CPU, "grouped", lambda *_: None, outcomes.__setitem__)
    assert "has no memory for" in str(outcomes[specs[0]])
    assert isinstance(outcomes[specs[1]], FastcifarError)


def test_a_pack_whose_images_do_not_fit_is_halved_too(synthetic, tmp_path, monkeypatch):
    specs = [spec_of(synthetic, lr=1e-3, seed=seed, epochs=1) for seed in range(3)]
    opened, said, outcomes = Feed.open, [], {}

    def scarce(name, dataset, asked, behind):
        if len(asked) > 2:
            raise DoesNotFit("the dataset, its order and a batch of 16 take 154 MiB")
        return opened(name, dataset, asked, behind)

    monkeypatch.setattr(Feed, "open", scarce)
    train_stacked(specs, synthetic, tmp_path, CPU, "grouped", lambda *_: None, outcomes.__setitem__, said.append)
    assert said == ["3 runs of cnn do not fit on cpu together: now 2 at a time"]
    assert {outcome["status"] for outcome in outcomes.values()} == {"finished"}


def test_a_stack_is_gone_before_a_smaller_one_is_made(synthetic, tmp_path, monkeypatch):
    """With their graphs, whose memory is their own, both might not fit."""
    specs = [spec_of(synthetic, lr=1e-3, seed=seed, epochs=1 + seed) for seed in range(3)]
    made, alive, init = [], [], Stacked.__init__
    given = []

    def give_back(device):
        given.append([stack() for stack in made if stack() is not None])

    monkeypatch.setattr("fastcifar.packs.training.give_back", give_back)

    def noted(self, *arguments, **options):
        alive.append([stack().shape for stack in made if stack() is not None])
        made.append(weakref.ref(self))
        init(self, *arguments, **options)

    monkeypatch.setattr(Stacked, "__init__", noted)
    gc.disable()
    try:
        pack(specs, synthetic, tmp_path)
    finally:
        gc.enable()
    assert alive == [[], [], []]
    assert given == [[], [], []]  # a graph's memory is given back once nothing refers to it


def test_each_stack_has_a_peak_of_its_own(synthetic, tmp_path, monkeypatch):
    """The peak of the device's memory, and what is only kept of it, are forgotten when a stack or a half begins."""
    told = []

    def trains(runs, packing, say_earlier):
        told.append(len(runs))
        if len(runs) > 1:
            raise DoesNotFit("too much")

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: told.append(str(device)))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: told.append("kept"))
    monkeypatch.setattr("fastcifar.packs.training._train", trains)
    cuda, specs = torch.device("cuda:1"), [spec_of(synthetic, seed=seed) for seed in range(2)]
    train_stacked(specs, synthetic, tmp_path, cuda, "grouped", lambda *_: None, lambda *_: None)
    again = ["kept", "cuda:1"]
    assert told == [*again, 2, "kept", *again, 1, *again, 1]


@pytest.mark.gpu
@pytest.mark.parametrize(("model", "way"), [("cnn", "grouped"), ("cnn", "im2col"), ("mlp_s", "grouped"),
                                            ("vit", "grouped")])  # fmt: skip
def test_on_cuda_four_runs_of_a_pack_end_near_solo_runs(digits, tmp_path, model, way):
    """Some percent apart after 38 steps, as on a CPU: what rounds otherwise at the first step grows."""
    specs = [
        spec_of(digits, model=model, batch_size=64, lr=1e-3, seed=seed, epochs=2, dropout=0.3, recipe=recipe)
        for seed, recipe in enumerate(("none", "basic", "erasing", "erasing"))
    ]
    cuda, outcomes = devices.device_of("cuda"), {}
    train_pack(specs, digits, tmp_path / "pack", cuda, way, lambda *_: None, outcomes.__setitem__)
    for spec in specs:
        alone = train(spec, digits, tmp_path / "alone", cuda)
        assert not isinstance(outcomes[spec], Exception), outcomes[spec]
        assert outcomes[spec]["val_loss"] == pytest.approx(alone["val_loss"], rel=0.15)
        assert model == "vit" or outcomes[spec]["val_loss"] < 0.9 * math.log(
            10
        )  # which a network has that learnt nothing


def test_a_directory_in_use_or_damaged_is_that_runs_alone(synthetic, tmp_path):
    specs = [spec_of(synthetic, lr=1e-3, seed=seed, epochs=1) for seed in range(3)]
    damaged = RunDirectory.of(specs[1], tmp_path)
    damaged.path.mkdir(parents=True)
    (damaged.path / "checkpoint.safetensors").write_bytes(b"no")
    with RunDirectory.of(specs[0], tmp_path).locked():
        found = {}
        train_stacked(specs, synthetic, tmp_path, CPU, "grouped", lambda *_: None, found.__setitem__)
    assert "another process is training" in str(found[specs[0]])
    assert "is damaged" in str(found[specs[1]])
    assert found[specs[2]]["status"] == "finished"


def test_what_is_finished_is_not_trained_again(synthetic, tmp_path):
    specs = [spec_of(synthetic, lr=1e-3, seed=seed, epochs=1) for seed in range(2)]
    first = pack(specs, synthetic, tmp_path)
    assert pack(specs, synthetic, tmp_path, watch=interrupting(0)) == first


def again(rehearsal, work):
    """A CUDA graph's twin: rehearsals, one recording that does the work, then the work at each replay."""
    rehearsal()
    return work


class OnHost:
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


def test_a_recorded_step_of_a_pack_gives_the_same(digits):
    specs = [spec_of(digits, lr=1e-3, seed=seed, recipe="basic") for seed in (0, 0, 1)]
    specs[1] = spec_of(digits, lr=1e-4, recipe="basic", dropout=0.0)
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
    assert can_stack(spec_of(digits)) is None
    assert ways.possible(spec_of(digits, precision="float16"), CPU) == ["serial"]


@pytest.mark.parametrize("way", ["serial", "side-by-side"])
def test_on_a_core_each_every_run_is_bit_by_bit_what_it_is_alone(synthetic, tmp_path, way, monkeypatch):
    monkeypatch.setattr(ways.machine, "usable_cores", lambda: 2)
    specs = some_specs(synthetic, "cnn", 13, 5)
    outcomes, lines = {}, {spec: [] for spec in specs}
    arguments = (specs, synthetic, tmp_path / "together", CPU, way, lambda spec, line: lines[spec].append(line))
    train_pack(*arguments, outcomes.__setitem__)
    for spec in specs:
        train(spec, synthetic, tmp_path / "alone", CPU)
        assert left_by(spec, tmp_path / "together") == left_by(spec, tmp_path / "alone")
        assert untimed(lines[spec]) == left_by(spec, tmp_path / "alone")[0]
        assert outcomes[spec]["status"] == "finished"


@pytest.mark.parametrize("way", ["serial", "side-by-side", "grouped"])
def test_a_watch_can_stop_a_pack_in_any_way(synthetic, tmp_path, way):
    specs = some_specs(synthetic, "cnn", 13, 4)
    outcomes, epochs = {}, []

    def watch(spec, line):
        epochs.append(line)
        raise Stopped

    with pytest.raises(Stopped):
        train_pack(specs, synthetic, tmp_path, CPU, way, watch, outcomes.__setitem__)
    assert not outcomes
    assert len(epochs) <= 4


def test_a_run_that_fails_leaves_the_others_alone(synthetic, tmp_path, monkeypatch):
    specs = some_specs(synthetic, "cnn", 13, 3)
    (tmp_path / "exp2" / specs[1].run_id / "metrics.jsonl").mkdir(parents=True)
    for way in ("serial", "side-by-side"):
        outcomes = {}
        train_pack(specs, synthetic, tmp_path, CPU, way, lambda *_: None, outcomes.__setitem__)
        assert isinstance(outcomes[specs[1]], FastcifarError | OSError)
        assert outcomes[specs[0]]["status"] == outcomes[specs[2]]["status"] == "finished"


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
        expected = whole._forward(batch.images, masks)
        with Products():
            got = parts._forward(batch.images, masks)
    torch.testing.assert_close(got, expected)
    assert max(products) == 2 * 7 * ViT.products
