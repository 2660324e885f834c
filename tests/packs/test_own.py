"""Stacks of one's own network: where vmap can, and why not elsewhere."""

from dataclasses import replace

import pytest
import torch
from support.own import SMALL
from support.own import write as write
from support.packs import FIRST, TWENTY
from support.runs import CPU

from fastcifar.grid.asked import Asked
from fastcifar.grid.plan import plan, train_grid
from fastcifar.grid.wanted import Wanted, runs_of
from fastcifar.packs import ways
from fastcifar.packs.options import Callbacks, PackOptions
from fastcifar.packs.stacked import can_stack
from fastcifar.packs.ways import train_pack
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.plan import headline_runs
from fastcifar.training.loop import train

BAD = """
import torch
from torch import nn
from net import Small

class Switch(Small):
    def forward(self, images):
        return super().forward(images) * (1 if self.training else 2)
class Looking(Small):
    def forward(self, images):
        return super().forward(images) * (1 if images.sum().item() > 0 else 2)
class Spare(Small):
    def __init__(self, n):
        super().__init__(n)
        self.spare = nn.Linear(2, 2)
class Scaled(Small):
    def __init__(self, n):
        super().__init__(n)
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
    def forward(self, images):
        return super().forward(images) * self.scale.float()
class Frozen(Small):
    def __init__(self, n):
        super().__init__(n)
        self.first.weight.requires_grad_(False)
"""


def specs_of(dataset, model="net:small", seeds=(0, 1, 2), **settings):
    small = {"batch_size": 16, "epochs": 2, "lr": 1e-3, "recipe": "basic", "precision": "float32"}
    return headline_runs(2, dataset, seeds=seeds, model=model, **small | settings)


def test_a_stacks_runs_are_those_alone(synthetic, write, tmp_path):
    write("net")
    specs = specs_of(synthetic)
    assert can_stack(specs[0]) is None
    outcomes = {}
    train_pack(specs, synthetic, tmp_path / "stack", CPU, PackOptions(way="grouped"),
               Callbacks(ended=outcomes.__setitem__))  # fmt: skip
    for spec in specs:
        alone = train(spec, synthetic, tmp_path / "alone", CPU)
        assert not isinstance(outcomes[spec], Exception), outcomes[spec]
        lines = [RunDirectory.of(spec, tmp_path / folder).metrics() for folder in ("stack", "alone")]
        assert lines[0][0]["train_loss"] == pytest.approx(lines[1][0]["train_loss"], rel=100 * FIRST)
        assert outcomes[spec]["val_loss"] == pytest.approx(alone["val_loss"], rel=TWENTY)


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        ("net:normed", {}, "it has buffers, such as BatchNorm's statistics"),
        ("net:small", {"precision": "bfloat16"}, "no mixed precision for one's own network; stack it with --amp off"),
        ("bad:Switch", {}, "it computes something else in evaluation mode"),
        ("bad:Looking", {}, "vmap fails on it"),
        ("bad:Spare", {}, "some of its weights do not affect its output"),
        ("bad:Scaled", {}, "some of its weights are not float32"),
        ("bad:Frozen", {}, "some of its weights are frozen"),
    ],
)
def test_why_a_network_trains_one_run_after_another(synthetic, write, model, settings, reason):
    write("net")
    write("bad", BAD)
    (spec,) = specs_of(synthetic, model, [0], **settings)
    assert reason in can_stack(spec)
    assert ways.possible(spec, torch.device("cuda")) == ["serial"]


@pytest.mark.slow
def test_a_grid_of_ones_own_network(synthetic, write, tmp_path):
    write("net", SMALL)
    overrides = {"epochs": [1], "lr": [1e-3, 1e-2], "batch_size": [32], "l2": [0.0], "recipe": ["none"]}
    for model, said in (("net:small", False), ("net:normed", True)):
        out, messages = tmp_path / model, []
        out.mkdir()
        runs = runs_of(Wanted([2], seeds=(0, 1), overrides=overrides, amp="off", model=model), synthetic, CPU)
        assert len(runs.specs) == 4
        assert {(spec.model, spec.dropout) for spec in runs.specs} == {(model, 0.0)}
        asked = Asked(synthetic, out, CPU)
        planned = plan(asked, runs, messages.append)
        assert any("one run after another, since it has buffers" in text for text in messages) == said
        results = train_grid(asked, planned)
        assert not results.failed
        assert len(planned.summaries(out)[0]) == 4
    write("net", SMALL + "\n# changed\n")
    anew = runs_of(Wanted([2], seeds=(0, 1), overrides=overrides, amp="off", model=model), synthetic, CPU)
    messages.clear()
    plan(asked, anew, messages.append)
    assert sum("has changed since" in text for text in messages) == 4
    assert replace(anew.specs[0], code=runs.specs[0].code) == runs.specs[0]
