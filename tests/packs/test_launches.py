"""The launches of a step as a CUDA graph records it: pixels, masks, network and optimizer. They may only become fewer.

They were counted with torch 2.14. Where a number becomes smaller, write the smaller number here.
"""

import pytest
import torch
from packaging.version import Version
from support.runs import spec_of

pytest.importorskip("triton", reason="Triton is not installed")
from bench.lib.launches import META, Trace, traced, without_a_device
from fastcifar.packs.stacked import Stacked
from fastcifar.training.learner import Learner

MOST = {
    ("mlp_s", 1, None): 55,
    ("mlp_s", 1, "grouped"): 45,
    ("mlp_s", 24, "grouped"): 45,
    ("mlp_l", 1, None): 105,
    ("mlp_l", 1, "grouped"): 80,
    ("mlp_l", 24, "grouped"): 80,
    ("cnn", 1, None): 76,
    ("cnn", 1, "grouped"): 60,
    ("cnn", 24, "grouped"): 62,
    ("cnn", 1, "im2col"): 95,
    ("cnn", 24, "im2col"): 95,
    ("cnn", 1, "fused"): 52,
    ("cnn", 24, "fused"): 52,
    ("vit", 1, None): 459,
    ("vit", 1, "grouped"): 462,
    ("vit", 24, "grouped"): 462,
    ("vit", 1, "fused"): 232,
    ("vit", 24, "fused"): 232,
    ("vit_as_run", 1, None): 133,
    ("vit_as_run", 1, "grouped"): 136,
    ("vit_as_run", 24, "grouped"): 136,
}
"""The launches of a step by network, number of runs and way. The way None is a run alone."""


def specs(dataset, model, runs):
    """Runs that differ in seed, learning rate, L2 and dropout."""
    protocol = "as-run" if model == "vit_as_run" else "sound"
    settings = {"model": model, "protocol": protocol, "precision": "bfloat16", "recipe": "erasing"}
    return [
        spec_of(dataset, seed=n, lr=1e-3 / (n + 1), l2=0.01 * (n % 2), dropout=0.1 * (1 + n % 3), **settings)
        for n in range(runs)
    ]


@pytest.mark.skipif(Version(torch.__version__) < Version("2.14"), reason="an older torch dispatches other operations")
@pytest.mark.parametrize(("model", "runs", "way"), MOST)
def test_launches_of_a_step(synthetic, model, runs, way):
    trace = traced(specs(synthetic, model, runs), synthetic, way, flops=False)
    assert len(trace.launches) <= MOST[model, runs, way], trace.counts.most_common()


def test_launches_of_optimizer_masks_and_pixels_do_not_grow_with_the_runs(synthetic):
    made = [traced(specs(synthetic, "cnn", runs), synthetic, "grouped", flops=False).counts for runs in (1, 24)]
    for counts in made:
        ours = {name: counts[name] for name in ("write_draws", "augment", "_write_all_kept", "write_step")}
        assert ours == dict.fromkeys(ours, 1)
        assert not [name for name in counts if name.startswith("_fused")]
    assert made[1].total() - made[0].total() <= 2, made[1] - made[0]


def test_launches_of_pixels_are_those_of_the_recipes(synthetic):
    """Groups of runs with one recipe share a launch, and no launch makes the pixels of two recipes."""
    recipes = ["none", "erasing", "none", "basic", "erasing"]
    some = [spec_of(synthetic, seed=n, recipe=recipe) for n, recipe in enumerate(recipes)]
    counts = traced(some, synthetic, "grouped", flops=False).counts
    assert (counts["augment"], counts["write_draws"]) == (3, 2)


def test_launches_of_runs_with_sgd_are_their_own(synthetic):
    some = [spec_of(synthetic, seed=n, optimizer=name) for n, name in enumerate(["adam", "sgd", "adamw", "sgd"])]
    counts = traced(some, synthetic, "grouped", flops=False).counts
    assert (counts["write_step"], counts["_fused_sgd_"]) == (1, 2)
    assert counts["_foreach_copy_"] == 1  # in float32, all gradients are of one dtype


@pytest.mark.parametrize(("model", "way"), dict.fromkeys((model, way) for model, _, way in MOST if way))
def test_no_launches_are_made_while_a_stack_is_built(synthetic, model, way):
    """Its networks are tried on torch's meta device, whose tensors have no memory that a kernel could read."""
    trace = Trace()
    with without_a_device(trace):
        Stacked([Learner.new(spec, 10, META) for spec in specs(synthetic, model, 2)], [0, 0], way)
    assert not trace.launches, trace.counts
