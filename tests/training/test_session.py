"""Between the command's options and its table: specs, devices, precisions, several runs."""

import dataclasses
import json

import pytest
import torch
from support.runs import spec_of

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.packs.options import Callbacks, PackOptions
from fastcifar.packs.ways import train_pack
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.plan import headline_runs, precision_of, weights_for
from fastcifar.runs.spec import RunSpec
from fastcifar.show import figures
from fastcifar.system import devices, machine
from fastcifar.training import session
from fastcifar.training.api import train_run
from fastcifar.training.loop import train
from fastcifar.training.options import Options

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_the_plan_is_the_headline_configuration_with_three_seeds(synthetic):
    specs = headline_runs(2, synthetic, precision="float32")
    headline = {"model": "cnn", "batch_size": 128, "lr": 1e-3, "l2": 0.0, "dropout": 0.5, "recipe": "basic"}
    assert specs == [
        RunSpec(experiment=2, protocol="sound", seed=seed, dataset=synthetic.sha256, precision="float32", **headline)
        for seed in (0, 1, 2)
    ]


def test_what_is_chosen_replaces_it(synthetic):
    (spec,) = headline_runs(
        1, synthetic, model="mlp_l", protocol="report", seeds=[7], lr=0.1, epochs=3,
        precision="bfloat16", pipeline="resident",
    )  # fmt: skip
    assert (spec.model, spec.protocol, spec.seed, spec.lr, spec.epochs) == ("mlp_l", "report", 7, 0.1, 3)
    assert (spec.batch_size, spec.dropout, spec.precision, spec.pipeline) == (128, 0.1, "bfloat16", "resident")
    (spec,) = headline_runs(1, synthetic, seeds=[7], precision="float16")
    assert spec.precision == "float16"


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"number": 9}, "experiment 9 does not exist"),
        ({"protocol": "best"}, "protocol 'best' does not exist"),
        ({"model": "vit"}, "experiment 2 under protocol sound has no model 'vit'; there are cnn"),
        ({"number": 1, "model": "mlp_l", "protocol": "as-run"}, "has no model 'mlp_l'; there are mlp_s"),
        ({"pipeline": "garden"}, "pipeline 'garden' does not exist; there are .*resident"),
        ({"number": 4, "model": "cnn"}, "has no model 'cnn'; there are mobilenet_v3_small"),
        ({"number": 4, "tune": "some"}, "tune 'some' is not one of full, head, as-run"),
        ({"lr": -1.0}, "lr -1.0 is outside"),
        ({"recipe": "imagenet384"}, "makes images of 384 x 384 pixels, but cnn takes 32 x 32"),
        ({"seeds": [-1]}, "seed -1 is outside"),
    ],
)
def test_what_cannot_be_planned_is_refused(synthetic, chosen, message):
    with pytest.raises(UsageError, match=message):
        headline_runs(**{"number": 2, "dataset": synthetic, "precision": "float32"} | chosen)


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        (None, "imagenet256"), ("efficientnet_v2_s", "imagenet384"), ("convnext_tiny", "imagenet236-224"),
        ("efficientnet_b0", "imagenet"),
    ],
)  # fmt: skip
def test_any_of_torchvision_s_networks_comes_with_its_preprocessing(synthetic, model, recipe):
    (spec,) = headline_runs(4, synthetic, model=model, seeds=[1], weights="0123456789abcdef")
    assert (spec.model, spec.recipe) == (model or "mobilenet_v3_small", recipe)
    assert (spec.tune, spec.weights, spec.batch_size, spec.lr) == ("full", "0123456789abcdef", 128, 1e-4)
    overrides = {"recipe": "none", "tune": "head"}
    (spec,) = headline_runs(4, synthetic, model=model, protocol="as-run", seeds=[1], **overrides)
    assert (spec.recipe, spec.tune, spec.weights) == ("none", "head", "none")


def test_only_experiment_4_has_weights():
    assert weights_for(2, None, None) == weights_for(2, "cnn", "none") == ("none", {}, "")
    assert weights_for(4, "resnet18", "none") == weights_for(4, None, "none") == ("none", {}, "")
    with pytest.raises(UsageError, match=r"--weights some\.pth: experiment 2 trains from scratch; --exp 4 does not"):
        weights_for(2, None, "some.pth")
    with pytest.raises(UsageError, match=r"model 'cnn' is neither one of torchvision's .* nor timm:"):
        weights_for(4, "cnn", None)


def test_a_session_is_its_runs_by_configuration(synthetic, tmp_path, monkeypatch):
    tiny = {"epochs": 2, "batch_size": 32}
    specs = headline_runs(2, synthetic, seeds=[0, 1], **tiny, precision="float32")
    specs += headline_runs(2, synthetic, seeds=[0], **tiny | {"recipe": "none"}, precision="float32")
    done = session.run(specs, synthetic, tmp_path, CPU)
    assert [directory.path for directory in done.directories] == [RunDirectory.of(s, tmp_path).path for s in specs]
    assert list(done.summaries) == [directory.summary() for directory in done.directories]
    assert done.by_configuration() == {specs[0].label: done.summaries[:2], specs[2].label: done.summaries[2:]}

    drawn = {}
    monkeypatch.setattr(session, "curves", lambda runs, path: drawn.update({path: runs}) or figures.curves(runs, path))
    picture = tmp_path / "pictures" / "curves.png"
    done.draw_curves(picture)
    lines = [directory.metrics() for directory in done.directories]
    assert drawn == {picture: {specs[0].label: lines[:2], specs[2].label: lines[2:]}}
    assert picture.read_bytes().startswith(b"\x89PNG")

    again = session.run(specs, synthetic, tmp_path, CPU)
    assert again.summaries == done.summaries  # with their times: nothing was trained


def test_pretrained_networks_are_trained_in_float32_on_a_cpu(monkeypatch):
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    assert precision_of("auto", CPU, number=4) == "float32"
    assert precision_of("bfloat16", CPU, number=4) == "bfloat16"
    assert precision_of("auto", CPU, number=2) == "bfloat16"


def test_automatic_precision_is_what_the_hardware_multiplies(monkeypatch):
    for flags, precision in (
        ({"avx2"}, "float32"), ({"avx512_bf16"}, "bfloat16"), ({"amx_bf16"}, "bfloat16"), ({"bf16"}, "bfloat16"),
    ):  # fmt: skip
        monkeypatch.setattr(machine, "cpu_flags", lambda flags=flags: frozenset(flags))
        assert precision_of("auto", CPU) == precision
    for supported, precision in ((True, "bfloat16"), (False, "float16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda supported=supported: supported)
        assert precision_of("auto", CUDA) == precision
    assert precision_of("auto", CUDA, number=4) == precision_of("auto", CUDA)
    assert [precision_of(amp, CPU) for amp in ("off", "bfloat16", "float16")] == [
        "float32", "bfloat16", "float16",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="--amp 'on' is not one of auto, off, bfloat16, float16"):
        precision_of("on", CPU)


@pytest.mark.parametrize("way", ["session", "train_run", "serial pack"])
def test_a_run_that_goes_on_has_the_threads_that_it_began_with(way, digits, tmp_path, monkeypatch):
    """More threads add in another order, which rounds otherwise."""
    spec, used, said = spec_of(digits, epochs=2, batch_size=64), [], []
    other = dataclasses.replace(spec, seed=7)

    def watched(*arguments):
        used.append(torch.get_num_threads())
        return train(*arguments)

    for module in ("session", "api"):
        monkeypatch.setattr(f"fastcifar.training.{module}.train", watched)
    monkeypatch.setattr("fastcifar.packs.ways.train", watched)

    def stop(line):
        raise KeyboardInterrupt

    with devices.threads(1), pytest.raises(KeyboardInterrupt):
        train(spec, digits, tmp_path, CPU, stop)
    with devices.threads(2):
        if way == "session":
            session.run([spec, other], digits, tmp_path, CPU, Options("none", say=said.append))
        elif way == "train_run":
            for each in (spec, other):
                train_run(each, digits, out=tmp_path, device="cpu", say=said.append)
        else:
            options = PackOptions(way="serial", say=said.append)
            train_pack([spec, other], digits, tmp_path, CPU, options, Callbacks())
        assert torch.get_num_threads() == 2
    assert used == [1, 2]
    assert [text for text in said if text.endswith("goes on with 1 thread, as it began")] == said[:1] != []


@pytest.mark.parametrize(
    "entry", ["null", '{"torch": true}', '{"torch": 0}', '{"torch": "2"}', '{"torch": 1e400}', "[]"]
)
def test_a_damaged_number_of_threads_is_refused(entry, digits, tmp_path):
    spec = spec_of(digits, epochs=1)
    directory = RunDirectory.of(spec, tmp_path)
    directory.path.mkdir(parents=True)
    begun = f'{{"spec": {json.dumps(dataclasses.asdict(spec))}, "environment": {{"threads": {entry}}}}}'
    directory.write("run.json", begun.encode())
    with pytest.raises(FastcifarError, match=r"run\.json is damaged.*(threads|out of range)"):
        session.run([spec], digits, tmp_path, CPU)
