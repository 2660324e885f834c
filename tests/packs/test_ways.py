"""The ways to train a pack: in each of them every run comes to its end, and a watch can stop them all."""

import math

import pytest
from support.packs import some_specs
from support.runs import CPU, left_by, spec_of, untimed

from fastcifar.errors import FastcifarError
from fastcifar.packs import ways
from fastcifar.packs.options import Callbacks, PackOptions, Stopped
from fastcifar.packs.ways import train_pack
from fastcifar.system import devices
from fastcifar.training.loop import train


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
    train_pack(
        specs, digits, tmp_path / "pack", cuda, PackOptions(way=way), Callbacks(lambda *_: None, outcomes.__setitem__)
    )
    for spec in specs:
        alone = train(spec, digits, tmp_path / "alone", cuda)
        assert not isinstance(outcomes[spec], Exception), outcomes[spec]
        assert outcomes[spec]["val_loss"] == pytest.approx(alone["val_loss"], rel=0.15)
        assert model == "vit" or outcomes[spec]["val_loss"] < 0.9 * math.log(
            10
        )  # which a network has that learnt nothing


@pytest.mark.whole
@pytest.mark.parametrize("way", ["serial", "side-by-side"])
def test_on_a_core_each_every_run_is_bit_by_bit_what_it_is_alone(synthetic, tmp_path, way, monkeypatch):
    monkeypatch.setattr(ways.machine, "usable_cores", lambda: 2)
    specs = some_specs(synthetic, "cnn", 13, 5)
    outcomes, lines = {}, {spec: [] for spec in specs}
    callbacks = Callbacks(lambda spec, line: lines[spec].append(line), outcomes.__setitem__)
    train_pack(specs, synthetic, tmp_path / "together", CPU, PackOptions(way=way), callbacks)
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
        train_pack(specs, synthetic, tmp_path, CPU, PackOptions(way=way), Callbacks(watch, outcomes.__setitem__))
    assert not outcomes
    assert len(epochs) <= 4


def test_a_run_that_fails_leaves_the_others_alone(synthetic, tmp_path, monkeypatch):
    specs = some_specs(synthetic, "cnn", 13, 3)
    (tmp_path / "exp2" / specs[1].run_id / "metrics.jsonl").mkdir(parents=True)
    for way in ("serial", "side-by-side"):
        outcomes = {}
        train_pack(
            specs, synthetic, tmp_path, CPU, PackOptions(way=way), Callbacks(lambda *_: None, outcomes.__setitem__)
        )
        assert isinstance(outcomes[specs[1]], FastcifarError | OSError)
        assert outcomes[specs[0]]["status"] == outcomes[specs[2]]["status"] == "finished"


@pytest.mark.whole
def test_a_stack_goes_on_with_its_moments_and_learning_rates(synthetic, tmp_path):
    settings = [("sgd", "onecycle"), ("adamw", "cosine"), ("adam", "onecycle")]
    specs = [spec_of(synthetic, lr=1e-3, optimizer=optimizer, schedule=schedule) for optimizer, schedule in settings]

    def stop(spec, line):
        if line["epoch"] == 2:
            raise Stopped

    def trained(out, **callbacks):
        train_pack(specs, synthetic, tmp_path / out, CPU, PackOptions(way="grouped"), Callbacks(**callbacks))

    trained("whole")
    with pytest.raises(Stopped):
        trained("stopped", watch=stop)
    trained("stopped")
    for spec in specs:
        assert left_by(spec, tmp_path / "stopped") == left_by(spec, tmp_path / "whole")
