"""Dropout masks of all runs and layers in one launch: the bits of each run's own masks."""

import pytest
import torch
from support.triton_kernels import on_each

from fastcifar.models.dropout import Noise
from fastcifar.packs.masks import MaskMaker
from fastcifar.rng.cursor import clock_of

WHICH = [0, 1, 0, 1]
PROBABILITIES, UNITS = {3: [0.5, 0.1, 0.0, 0.9], 0: [0.0, 0.3, 0.3, 0.0]}, {0: 7, 3: 260}
SEEDS = [(2**64 - 1, 3), (1 << 40, 2**31 - 1)]
IDS = torch.tensor([[0, 5, 2**32 - 1, 17, 4, 9], [8, 1, 2, 3, 0, 6]])


@on_each("device")
@pytest.mark.parametrize("batch", [1, 6])
def test_one_launch_makes_the_masks_of_every_run_and_layer(batch, device, monkeypatch):
    from fastcifar.kernels.gpu import dropout

    kernel, launches, there = dropout._write_all_kept, [], torch.device(device)

    class Noted:
        def __getitem__(self, grid):
            launches.append(grid)
            return kernel[grid]

    monkeypatch.setattr(dropout, "_write_all_kept", Noted())
    ids, clocks = IDS[:, :batch], torch.stack([clock_of(*seed, torch.device("cpu")) for seed in SEEDS])
    ours = MaskMaker(PROBABILITIES, UNITS, WHICH, there, together=True).masks(clocks.to(there), ids.to(there))
    plain = MaskMaker(PROBABILITIES, UNITS, WHICH, torch.device("cpu"), together=False).masks(clocks, ids)
    assert launches == [(batch, 4, 4)]  # 4 parts: 7 units in one, 260 in three
    for layer, of_layer in PROBABILITIES.items():
        assert torch.equal(ours[layer].cpu(), plain[layer])
        for run, (group, p) in enumerate(zip(WHICH, of_layer, strict=True)):
            expected = Noise.of(*SEEDS[group], ids[group]).kept(p, layer, UNITS[layer])
            assert torch.equal(plain[layer][run], expected if p else torch.ones_like(expected))


def test_without_dropout_nothing_is_launched():
    maker = MaskMaker({}, {}, [0], torch.device("cpu"), together=True)
    assert maker.masks(torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 4, dtype=torch.int64)) == {}
