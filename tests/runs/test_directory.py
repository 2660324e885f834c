"""What a run is, and its directory: whole files, one trainer at a time, nothing unpickled."""

import errno
import json
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.lines import line_of
from support.specs import PRETRAINED, SPEC

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.runs.directory import RunDirectory, find_runs
from fastcifar.runs.settings import SETTABLE, parse_choices, parse_overrides
from fastcifar.runs.spec import RunSpec
from fastcifar.system import machine

CPU = torch.device("cpu")
OTHER = {
    "experiment": 3,
    "protocol": "report",
    "model": "vit",
    "batch_size": 64,
    "lr": 1e-4,
    "l2": 0.01,
    "dropout": 0.0,
    "recipe": "none",
    "seed": 1,
    "dataset": "f" * 64,
    "epochs": 10,
    "precision": "float32",
    "pipeline": "torchvision",
}
OTHER |= {"optimizer": "sgd", "schedule": "cosine", "smoothing": 0.1}
OTHER_OF_OWN = {"code": "1" * 64}
OTHER_OF_PRETRAINED = {"model": "timm:vit_tiny/8", "tune": "head", "weights": "0123456789abcdef"}


def test_a_run_id_is_readable_and_stays_what_it_is():
    """Directories of runs are found by it: a change here loses every run that was made."""
    assert SPEC.run_id == "cnn-basic-b128-lr0.001-l2_0-d0.5-sound-s0-1dfee8e9"
    assert SPEC.label == "cnn-basic-b128-lr0.001-l2_0-d0.5-sound"
    assert PRETRAINED.run_id == "resnet18-imagenet256-b128-lr0.001-l2_0-d0-scratch-sound-s0-139b877c"
    other = replace(PRETRAINED, **OTHER_OF_PRETRAINED)
    changed = replace(SPEC, optimizer="sgd", schedule="onecycle", smoothing=0.1)
    assert changed.run_id == "cnn-basic-b128-lr0.001-l2_0-d0.5-sgd-onecycle-smooth0.1-sound-s0-1f47af58"
    assert other.run_id == "timm-vit_tiny-8-imagenet256-b128-lr0.001-l2_0-d0-head-sound-s0-b918103d"


def test_run_ids_differ_when_anything_does():
    assert {*OTHER, *OTHER_OF_PRETRAINED, *OTHER_OF_OWN} == {field.name for field in fields(RunSpec)}
    own = replace(SPEC, model="net:make", dropout=0.0, code="0" * 64)
    for spec, other in ((SPEC, OTHER), (PRETRAINED, OTHER_OF_PRETRAINED), (own, OTHER_OF_OWN)):
        ids = {spec.run_id, *(replace(spec, **{name: value}).run_id for name, value in other.items())}
        assert len(ids) == 1 + len(other)


def test_equal_specs_have_equal_run_ids():
    whole = replace(SPEC, lr=1, l2=0, dropout=0)
    assert whole == replace(SPEC, lr=1.0, l2=0.0, dropout=0.0)
    assert whole.run_id == replace(SPEC, lr=1.0, l2=0.0, dropout=0.0).run_id


def test_a_run_id_is_a_file_name():
    assert all(part not in replace(SPEC, lr=1e-9, l2=1e-5).run_id for part in ("/", " ", "\\", ":"))
    assert len(replace(SPEC, model="vit_as_run", lr=1.23456e-9, l2=1.23456e-5, seed=(1 << 64) - 1).run_id) < 200


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lr", 0.0, r"lr 0.0 is outside \[1e-09, 10000\]"),
        ("lr", float("nan"), "lr nan is outside"),
        ("lr", float("inf"), "lr inf is outside"),
        ("l2", -0.1, "l2 -0.1 is outside"),
        ("dropout", 1.0, r"dropout 1.0 is outside \[0, 0.99\]"),
        ("epochs", 0, "epochs 0 is outside"),
        ("batch_size", 0, "batch_size 0 is outside"),
        ("batch_size", 1 << 17, "batch_size 131072 is outside"),
        ("seed", -1, "seed -1 is outside"),
        ("seed", 1 << 64, "seed 18446744073709551616 is outside"),
        ("precision", "int8", "precision 'int8' does not exist; there are float32, bfloat16, float16"),
        ("smoothing", 1.0, r"smoothing 1.0 is outside \[0, 1\); choose a value such as 0.1"),
        ("smoothing", float("nan"), "smoothing nan is outside"),
        ("optimizer", "lion", "optimizer 'lion' does not exist; there are adam, adamw, sgd, muon"),
        ("schedule", "linear", "schedule 'linear' does not exist; there are constant, cosine, onecycle"),
        ("code", "0" * 64, "code '0000.*' does not fit model cnn"),
        ("protocol", "best", "protocol 'best' does not exist; there are sound, report, as-run"),
        ("model", "resnet", "model 'resnet' does not exist; there are mlp_s"),
        ("model", "resnet18", "dropout 0.5: resnet18 has dropout of its own; leave it at 0"),
        ("tune", "head", "cnn is not pretrained; leave tune at 'full' and weights at 'none'"),
        ("weights", "0" * 16, "cnn is not pretrained; leave tune at 'full' and weights at 'none'"),
        ("recipe", "flips", "recipe 'flips' does not exist; there are none, basic, erasing"),
        ("recipe", "imagenet256", "'imagenet256' makes images of 224 x 224 pixels, but cnn takes 32 x 32"),
    ],
)
def test_what_cannot_be_run_is_refused(name, value, message):
    with pytest.raises(UsageError, match=message):
        replace(SPEC, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tune", "some", "tune 'some' is not one of full, head, as-run"),
        ("recipe", "flips", "recipe 'flips' does not exist"),
        ("model", "deeplabv3_resnet50", "model 'deeplabv3_resnet50' does not exist"),  # of another task
    ],
)
def test_what_a_pretrained_network_cannot_is_refused(name, value, message):
    with pytest.raises(UsageError, match=message):
        replace(PRETRAINED, **{name: value})


def test_overrides_are_typed():
    pairs = ["lr=1e-4", "batch_size=64", "recipe=erasing", "epochs=3", "l2=0", "dropout=.25", "precision=float32"]
    chosen = parse_overrides(pairs, SETTABLE)
    assert chosen == {
        "lr": 1e-4, "batch_size": 64, "recipe": "erasing", "epochs": 3, "l2": 0.0, "dropout": 0.25,
        "precision": "float32",
    }  # fmt: skip
    assert [type(value) for value in chosen.values()] == [float, int, str, int, float, float, str]
    assert parse_overrides(["lr=1", "lr=2"], SETTABLE) == {"lr": 2.0}  # the last one counts
    assert parse_overrides([], SETTABLE) == {}


def test_choices_are_lists_and_a_recipe_keeps_its_changes():
    pairs = ["lr=1e-3,3e-3", "recipe=none,basic,crop=4,erase=0.5", "recipe=flip=0.5", "lr=1"]
    assert parse_choices(pairs, SETTABLE, "--set") == {
        "lr": [1e-3, 3e-3, 1.0], "recipe": ["none", "basic,crop=4,erase=0.5", "flip=0.5"],
    }  # fmt: skip
    with pytest.raises(UsageError, match="--set lr=: '' is not of type float"):
        parse_choices(["lr=1,"], SETTABLE, "--set")


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("batchsize=64", "--set batchsize: no such setting; did you mean batch_size?"),
        ("droput=0", "did you mean dropout?"),
        ("qqq=1", "--set qqq: no such setting; there are batch_size, lr, l2"),
        ("seed=1", "--set seed: no such setting"),  # a session has several: --seeds
        ("lr", r"--set 'lr' is not of the form key=value, as in --set lr=1e-4"),
        ("lr=fast", "--set lr=fast: 'fast' is not of type float"),
        ("batch_size=64.5", "--set batch_size=64.5: '64.5' is not of type int"),
        ("epochs=", "--set epochs=: '' is not of type int"),
    ],
)
def test_overrides_that_cannot_be_are_refused(pair, message):
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        parse_overrides([pair], SETTABLE)


@pytest.fixture
def directory(tmp_path):
    made = RunDirectory.of(SPEC, tmp_path)
    with made.locked():
        yield made


@pytest.fixture
def begun(directory):
    directory.start(SPEC, {"dataset": {"name": "digits", "sha256": "0" * 64}})
    return directory


SUMMARY = {"status": "finished", "epochs": 0, "kept_epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0, "seconds": 1.0}


def test_where_a_run_is_kept(directory, tmp_path):
    assert directory.path == tmp_path / "exp2" / SPEC.run_id
    assert find_runs(tmp_path) == []
    directory.start(SPEC, {"dataset": {"name": "digits", "sha256": "0" * 64}})
    assert [run.path for run in find_runs(tmp_path)] == [directory.path]
    written = json.loads((directory.path / "run.json").read_text())
    assert RunSpec(**written["spec"]) == SPEC
    directory.start(
        SPEC, {"dataset": {"name": "another", "sha256": "1" * 64}}
    )  # a later session does not rewrite how it began
    assert json.loads((directory.path / "run.json").read_text()) == written


def test_metrics_are_lines_and_one_cut_short_is_none(begun):
    assert begun.metrics() == []
    lines = [line_of(n, 1 / n) for n in (1, 2, 3)]
    for line in lines:
        begun.append_metrics(line)
    assert begun.metrics() == lines
    file = begun.path / "metrics.jsonl"
    whole = file.read_bytes()
    for end in range(len(whole) - 1, whole.rindex(b"\n", 0, -1), -1):
        file.write_bytes(whole[:end])
        assert begun.metrics() == lines[:2]
    assert begun.keep_metrics(1) == lines[:1]
    assert file.read_bytes() == whole[: whole.index(b"\n") + 1]
    begun.append_metrics(lines[1])
    assert begun.metrics() == lines[:2]
    assert begun.keep_metrics(0) == begun.metrics() == []


def test_metrics_that_something_else_damaged_are_said(begun):
    begun.append_metrics(line_of(1))
    with pytest.raises(FastcifarError, match=r"metrics.jsonl has 1 of the 2 epochs .* delete .* to train it anew"):
        begun.keep_metrics(2)
    (begun.path / "metrics.jsonl").write_text("{]\n")
    with pytest.raises(FastcifarError, match=r"line 1 of .*metrics.jsonl is damaged .* delete .* to train it anew"):
        begun.metrics()


def test_a_summary_finishes_a_run(begun):
    assert begun.summary() is None
    begun.save_tensors("checkpoint", {"a": torch.ones(2)}, {"epoch": 0})
    begun.finish(SUMMARY)
    assert begun.summary() == SUMMARY
    assert begun.load_tensors("checkpoint", CPU) is None
    (begun.path / "summary.json").write_text("")
    with pytest.raises(FastcifarError, match=r"summary.json is damaged"):
        begun.summary()


def test_tensors_come_back_bit_for_bit(directory):
    tensors = {
        "f32": torch.randn(3, 4).t(),
        "bf16": torch.randn(5).bfloat16(),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(3, dtype=torch.int64),
        "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
        "empty": torch.empty(0, 3),
        "of a graph": torch.ones(2, requires_grad=True) * 3,
    }
    directory.save_tensors("model", tensors, {"epoch": 3, "scale": 65536.0})
    loaded, note = directory.load_tensors("model", CPU)
    assert note == {"epoch": 3, "scale": 65536.0}
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(loaded[name], tensor.detach(), rtol=0, atol=0, equal_nan=True)
        assert loaded[name].dtype == tensor.dtype
    assert directory.load_tensors("nothing", CPU) is None


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_damaged_tensors_are_refused_or_are_tensors(tmp_path_factory, cut, byte):
    """Cut anywhere, or with a byte of the header changed: an error that names the file, or readable after all."""
    directory = RunDirectory(tmp_path_factory.mktemp("run"))
    directory.save_tensors("model", {"a": torch.arange(6.0), "b": torch.ones(3)}, {"epoch": 1})
    file = directory.path / "model.safetensors"
    content = file.read_bytes()
    cut %= len(content)
    file.write_bytes(content[:cut])
    with pytest.raises(FastcifarError, match=r"model.safetensors is damaged .*; delete .* to train it anew"):
        directory.load_tensors("model", CPU)
    file.write_bytes(content[:cut] + bytes([byte]) + content[cut + 1 :])
    with suppress(FastcifarError):
        assert directory.load_tensors("model", CPU) is not None


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "it went off")


def test_nothing_is_unpickled(directory, tmp_path, monkeypatch):
    armed = tmp_path / "armed"
    for write in (lambda file: file.write_bytes(pickle.dumps(Bomb(armed))), lambda file: torch.save(Bomb(armed), file)):
        for name in ("checkpoint.safetensors", "metrics.jsonl", "summary.json"):
            write(directory.path / name)
        for read in (directory.summary, lambda: directory.load_tensors("checkpoint", CPU)):
            with pytest.raises(FastcifarError, match="is damaged"):
                read()
        with suppress(FastcifarError):  # bytes without a newline are a line cut short
            assert directory.metrics() == []
    assert not armed.exists()
    pickle.loads(pickle.dumps(Bomb(armed)))
    assert armed.exists()  # the bomb is one


def test_a_full_disk_leaves_what_was_there_and_names_the_file(begun, monkeypatch):
    begun.save_tensors("model", {"a": torch.ones(2)}, {"epoch": 1})
    begun.append_metrics(line_of(1))

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as write and fsync do: without a file's name

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FastcifarError, match=r"cannot write .*model.safetensors \(No space left on device\)"):
            begun.save_tensors("model", {"a": torch.zeros(2)}, {"epoch": 2})
        with pytest.raises(FastcifarError, match=r"cannot write .*metrics.jsonl \(No space left on device\)"):
            begun.append_metrics(line_of(2))
    loaded, note = begun.load_tensors("model", CPU)
    assert (loaded["a"].tolist(), note) == ([1.0, 1.0], {"epoch": 1})
    assert begun.keep_metrics(1) == [line_of(1)]


def test_a_file_is_replaced_wholly_or_not_at_all(directory, monkeypatch):
    """Whoever reads while it is written sees the old one until the new one is there."""
    directory.save_tensors("model", {"a": torch.ones(2)}, {"epoch": 1})
    seen = []
    fsync = os.fsync

    def look(handle):
        seen.append(directory.load_tensors("model", CPU)[1])
        fsync(handle)

    monkeypatch.setattr(os, "fsync", look)
    directory.save_tensors("model", {"a": torch.zeros(2)}, {"epoch": 2})
    assert seen == [{"epoch": 1}]
    assert directory.load_tensors("model", CPU)[1] == {"epoch": 2}
    assert sorted(file.name for file in directory.path.iterdir()) == ["lock", "model.safetensors"]


TRAINER = """
import sys
from pathlib import Path
from fastcifar.errors import FastcifarError
from fastcifar.runs.directory import RunDirectory
try:
    with RunDirectory(Path(sys.argv[1])).locked():
        print("locked")
except FastcifarError as error:
    print(error)
"""


@pytest.mark.whole
def test_a_second_process_is_refused(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    with directory.locked():
        command = [sys.executable, "-c", TRAINER, directory.path]
        second = subprocess.run(command, capture_output=True, text=True, check=True, cwd=machine.CHECKOUT)
        assert second.stdout.strip() == f"another process is training {directory.path}; wait for it or stop it"
        with pytest.raises(FastcifarError, match="another process"), directory.locked():
            pass
    with directory.locked():
        pass
