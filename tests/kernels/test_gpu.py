"""The GPU kernel against the reference: interpreted where there is no GPU, compiled where there is one."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from fastcifar.kernels import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import images, specs
from support.triton_kernels import gpu, interpreted, on_each

from fastcifar.augment import Augment, Draws, draw
from fastcifar.errors import UsageError
from fastcifar.recipes import RECIPES
from fastcifar.rng.cursor import clock_of
from fastcifar.rng.philox import Stream, shuffled

DTYPES = reference.OUT_DTYPES
WILD = Augment(
    flip=0.5, brightness=3.0, contrast=3.0, saturation=3.0, hue=0.5, rotate=180.0, erase=0.9, erase_area=(0.001, 1.0),
    erase_aspect=(0.01, 100.0),
)  # fmt: skip
on_device = on_each("device")


def rendered(spec: Augment, dtype: torch.dtype, order: np.ndarray, batch: int, device: str, at=0, seed=3, launch=None):
    """Images, labels and ids of batch number ``at`` of epoch 5, and the images, labels there are."""
    source, labels = images(60).to(device), torch.arange(60, device=device) * 7
    size = spec.out_size
    out = torch.full((batch, 3, size, size), 9.0, dtype=dtype, device=device).to(memory_format=torch.channels_last)
    out_labels, out_ids = torch.zeros(2, batch, dtype=torch.int64, device=device)
    clock = clock_of(seed, 5, torch.device(device), at)
    gpu.render(source, labels, torch.from_numpy(order).to(device), clock, spec, out, out_labels, out_ids, launch=launch)
    return out.cpu(), out_labels.cpu(), out_ids.cpu(), source.cpu()


@pytest.mark.whole
@on_device
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_batch_is_gathered_drawn_for_and_rendered_to_the_references_bits(recipe, dtype, device):
    spec, order = RECIPES[recipe], np.random.default_rng(0).permutation(60)
    batch = 2 if spec.size else 20
    got, labels, ids, source = rendered(spec, dtype, order, batch, device, at=1)
    wanted = order[batch : 2 * batch]
    assert ids.tolist() == wanted.tolist()
    assert labels.tolist() == (wanted * 7).tolist()
    assert torch.equal(got, reference.apply(source[wanted], draw(spec, 3, 5, wanted), spec, dtype))
    assert got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.whole
@on_device
@pytest.mark.parametrize("batch", [0, 1, 37, 160])
def test_ragged_batches(batch, device):
    order = np.arange(batch) % 60
    got, _, ids, source = rendered(RECIPES["erasing"], torch.bfloat16, order, batch, device)
    assert ids.tolist() == order.tolist()
    spec = RECIPES["erasing"]
    assert torch.equal(got, reference.apply(source[order], draw(spec, 3, 5, order), spec, torch.bfloat16))


@pytest.mark.whole
@on_device
@pytest.mark.parametrize("launch", gpu.CANDIDATES, ids=str)
@pytest.mark.parametrize("spec", [RECIPES["erasing"], RECIPES["none"], replace(WILD, size=(40, 36))], ids=str)
def test_every_launch_gives_the_same_bits(spec, launch, device):
    order = np.random.default_rng(1).permutation(60)
    for dtype in (torch.float32, torch.bfloat16):
        got, _, ids, source = rendered(spec, dtype, order, 5, device, at=2, launch=launch)
        wanted = order[10:15]
        assert ids.tolist() == wanted.tolist()
        assert torch.equal(got, reference.apply(source[wanted], draw(spec, 3, 5, wanted), spec, dtype))


@pytest.mark.whole
@on_device
@pytest.mark.parametrize("recipe", ["none", "erasing", "airbench96", "imagenet256"])
def test_batches_of_several_groups_are_one_launch_of_the_same_bits(recipe, device, monkeypatch):
    """Groups have an order, a seed, an epoch and a batch number of their own. A group that is not named is left."""
    spec, batch, made = RECIPES[recipe], 1 if RECIPES[recipe].size else 3, []
    there, dice = torch.device(device), np.random.default_rng(4)
    source, labels = images(60).to(there), torch.arange(60, device=there) * 7
    orders = torch.from_numpy(np.stack([dice.permutation(60) for _ in range(4)])).to(there)[:, 1:]
    cursors = ((3, 5, 1), (2**64 - 1, 6, 0), (9, 2**31, 2), (0, 1, 4))
    clocks = torch.stack([clock_of(seed, epoch, there, at) for seed, epoch, at in cursors])
    size = spec.out_size
    out = torch.full((4, batch, size, size, 3), 9.0, device=there).permute(0, 1, 4, 2, 3)
    out_labels, out_ids = torch.full((2, 4, batch), -1, dtype=torch.int64, device=there)
    for module, name in ((gpu.pixels, "augment"), (gpu.pixels, "enlarge"), (gpu.numbers, "write_draws")):
        monkeypatch.setattr(module, name, Noted(getattr(module, name), name, made))
    groups = torch.tensor([2, 0, 3], device=there)
    gpu.render(source, labels, orders, clocks, spec, out, out_labels, out_ids, groups=groups)
    assert len(made) == len({name for name, _ in made})
    monkeypatch.undo()
    for group in groups.tolist():
        alone = torch.empty_like(out[group])
        its_labels, its_ids = torch.empty(2, batch, dtype=torch.int64, device=there)
        gpu.render(source, labels, orders[group], clocks[group], spec, alone, its_labels, its_ids)
        assert torch.equal(out[group], alone)
        assert torch.equal(out_labels[group], its_labels)
        assert torch.equal(out_ids[group], its_ids)
    assert (out[1] == 9).all()
    assert (out_ids[1] == -1).all()


@interpreted
@pytest.mark.parametrize("launch", gpu.CANDIDATES, ids=str)
def test_the_launches_are_those_that_are_said(launch, monkeypatch):
    for spec in (RECIPES["erasing"], RECIPES["none"], RECIPES["imagenet256"]):
        made = []
        for module, name in ((gpu.pixels, "augment"), (gpu.pixels, "enlarge"), (gpu.numbers, "write_draws")):
            kernel = getattr(module, name)
            monkeypatch.setattr(module, name, Noted(kernel, name, made))
        rendered(spec, torch.float32, np.arange(1), 1, "cpu", launch=launch)
        monkeypatch.undo()
        before = spec.random and launch.dice == gpu.BEFORE
        wanted = ["write_draws"] * before + ["augment"] + ["enlarge"] * (spec.size is not None)
        assert [name for name, _ in made] == wanted
        assert [options["num_warps"] for name, options in made if name == "augment"] == [launch.warps]


class Noted:
    """A kernel that notes its launches with their options."""

    def __init__(self, kernel, name, made):
        self.kernel, self.name, self.made = kernel, name, made

    def __getitem__(self, grid):
        def launch(*arguments, **options):
            self.made.append((self.name, options))
            return self.kernel[grid](*arguments, **options)

        return launch


def test_the_chosen_launch_is_a_candidate():
    assert gpu.CHOSEN in gpu.CANDIDATES


@on_device
@pytest.mark.parametrize("count", [0, 1, 300])
def test_sorted_by_their_keys_ids_are_in_the_order_of_the_definition(count, device):
    ids = np.sort(np.random.default_rng(0).integers(0, 2**32, count))
    for seed, epoch in ((0, 0), (2**64 - 1, 3), (1 << 40, 2**31)):
        keys = gpu.order_keys(torch.from_numpy(ids).to(device), clock_of(seed, epoch, torch.device(device)))
        order = ids[torch.argsort(keys, stable=True).cpu().numpy()]
        assert np.array_equal(order, shuffled(ids, seed, Stream.ORDER, epoch))


@pytest.mark.whole
@on_device
@settings(max_examples=25, deadline=None)
@given(spec=specs, seed=st.integers(0, 2**64 - 1), dtype=st.sampled_from(DTYPES))
def test_any_spec_under_any_seed(spec, seed, dtype, device):
    spec, order = replace(spec, size=None), np.arange(9)
    got, _, _, source = rendered(spec, dtype, order, 9, device, seed=seed)
    assert torch.equal(got, reference.apply(source[order], draw(spec, seed, 5, order), spec, dtype))


@pytest.mark.whole
@on_device
@pytest.mark.parametrize("size", [(33, 33), (40, 32), (64, 50), (256, 224)])
def test_any_enlargement_with_everything_before_and_after(size, device):
    spec, order = replace(WILD, size=size, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.1)), np.array([3, 59, 0])
    got, _, _, source = rendered(spec, torch.float32, order, 3, device)
    assert torch.equal(got, reference.apply(source[order], draw(spec, 3, 5, order), spec))


@on_device
@pytest.mark.parametrize("spec", [*RECIPES.values(), WILD, replace(WILD, size=(256, 224))], ids=str)
def test_the_draws_are_the_same_bits(spec, device):
    ids = np.concatenate([np.arange(150), np.array([2**31 - 1, 2**31, 2**32 - 1])])
    for seed, epoch in ((0, 0), (2**64 - 1, 7), (1 << 32, 2**31)):
        got, wanted = gpu.draw(spec, seed, epoch, ids, torch.device(device)), draw(spec, seed, epoch, ids)
        for field in fields(Draws):
            assert np.array_equal(getattr(got, field.name), getattr(wanted, field.name)), field.name


def corners() -> Draws:
    """Draws at the ends of what a spec can ask for: every jitter order, factors of 0 and more, whole rectangles."""
    n = 24
    made = draw(WILD, 1, 1, np.arange(n))
    made.order[:] = np.array(sorted({tuple(np.random.default_rng(k).permutation(4)) for k in range(999)}), np.uint8)
    for name in ("brightness", "contrast", "saturation"):
        getattr(made, name)[:] = np.resize(np.float32([0, 1, 2, 100, 0.5]), n)
    made.hue[:] = np.resize(np.float32([-0.5, 0, 0.5, 1 / 6, -1 / 3]), n)
    quarter = 1 << 24
    for k, (cos, sin) in enumerate([(quarter, 0), (0, quarter), (-quarter, 0), (0, -quarter)]):
        made.cos[k::4], made.sin[k::4] = cos, sin
    made.erase_top[:], made.erase_left[:] = 0, 0
    made.erase_height[:] = np.resize([0, 1, 32, 31], n)
    made.erase_width[:] = np.resize([0, 32, 1, 31, 32], n)
    return made


@on_device
@pytest.mark.parametrize("dtype", DTYPES)
def test_given_draws_at_their_corners(dtype, device):
    draws, source = corners(), images(24)
    source[:4] = torch.tensor([[0, 0, 0], [255, 255, 255], [77, 77, 77], [255, 0, 0]], dtype=torch.uint8)[:, None, None]
    got = gpu.apply(source.to(device), draws, WILD, dtype).cpu()
    assert torch.equal(got, reference.apply(source, draws, WILD, dtype))


@on_device
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_casting_rounds_as_torch_does(dtype, device):
    """Every level of every channel, blown up by tiny and huge stds: subnormal, normal and overflowing values."""
    levels = torch.arange(256, dtype=torch.uint8).repeat(4).view(1, 32, 32, 1).expand(1, 32, 32, 3).contiguous()
    draws = draw(Augment(), 0, 0, np.arange(1))
    for std in (1e-6, 1.53e-5, 1.6e-5, 0.3, 1.0, 99.0):
        spec = Augment(mean=(0.5, 0.001, 0.7), std=(std, std, std))
        got, expected = gpu.apply(levels.to(device), draws, spec, dtype), reference.apply(levels, draws, spec, dtype)
        assert torch.equal(got.cpu(), expected), std


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(UsageError, match="3 images but 2 draws"):
        gpu.apply(images(3), draw(Augment(), 0, 0, np.arange(2)), Augment())
    with pytest.raises(UsageError, match="seed -1"):
        clock_of(-1, 0, torch.device("cpu"))


def test_a_spec_s_tables_are_made_once_per_device():
    cpu = torch.device("cpu")
    assert gpu.spec_tables(RECIPES["basic"], cpu) is gpu.spec_tables(RECIPES["basic"], cpu)
    starts = gpu.spec_tables(RECIPES["imagenet256"], cpu).row_starts
    assert (starts[0], starts[31]) == (0, 224)


def test_draws_are_packed_and_unpacked_whole():
    draws = draw(WILD, 0, 0, np.arange(5))
    again = gpu._unpacked(gpu.packed(draws).numpy())
    assert all(np.array_equal(getattr(again, f.name), getattr(draws, f.name)) for f in fields(Draws))
