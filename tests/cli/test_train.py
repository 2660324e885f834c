"""``fastcifar train``: what is trained, what is printed where, and how misuse is answered."""

import hashlib
import json
import shutil
import signal
import sys
import time
from urllib.error import URLError

import pytest
import torch
import torchvision
from PIL import Image
from support.command import TINY, finished, started
from support.text import next_of, without_news

from fastcifar.runs.directory import TIMING, find_runs
from fastcifar.system import cures


@pytest.mark.whole
def test_train_trains_three_seeds_and_tabulates_them(command, synthetic, tmp_path):
    answer = command("train", "--exp", 2, "--data", synthetic.path, "--out", tmp_path, *TINY)
    assert answer.code == 0
    # quiet where nobody looks: one line, and no bars or colours
    assert answer.err.startswith(f"{synthetic.name}: 3 runs into {tmp_path}/exp2; loading torch\ncpu, float32\n")
    assert answer.err.count(": ended after 2 epochs, kept ") == 3
    assert without_news(answer.err) == next_of(
        "runs", "--out", tmp_path, "--only", "experiment=2", "--sort", "-val_accuracy"
    )
    assert "\x1b" not in answer.out
    label = "cnn-basic-b32-lr0.001-l2_0-d0.5-sound"
    row = next(line for line in answer.out.splitlines() if label in line)
    accuracies = [run.summary()["val_accuracy"] for run in find_runs(tmp_path)]
    assert len(accuracies) == 3
    mean = 100 * sum(accuracies) / 3
    assert f"{mean:.2f} ± " in row
    picture = tmp_path / "exp2" / f"{label}.png"
    assert answer.out.endswith(f"picture: {picture}\n")
    with Image.open(picture) as image:
        image.verify()

    answer = command("train", "--exp", 2, "--data", synthetic.path, "--out", tmp_path, *TINY, "--json")
    results = json.loads(answer.out)  # of the same runs, not trained again
    assert [result["val_accuracy"] for result in results] == accuracies
    assert [result["run_id"] for result in results] == [run.path.name for run in find_runs(tmp_path)]
    assert {"status", "kept_epoch", "seconds", "images_per_s", "stall"} <= results[0].keys()


@pytest.mark.parametrize("more", [(), ("--no-verify",)])
def test_a_flipped_label_is_refused_unless_the_dataset_is_not_to_be_verified(command, synthetic, tmp_path, more):
    data = shutil.copytree(synthetic.path, tmp_path / "data")
    labels = bytearray((data / "train.labels.npy").read_bytes())
    labels[-1] ^= 1
    (data / "train.labels.npy").write_bytes(labels)
    answer = command("train", "--exp", 2, "--data", data, "--out", tmp_path, "--seeds", 0, *TINY, *more)
    if not more:
        assert answer.code == 1
        assert "train.labels.npy differs from what was written; make the dataset anew" in answer.err
        return
    (run,) = find_runs(tmp_path)
    assert run.begun()["dataset"]["verified"] is False
    assert "1 run trained with --no-verify" in command("runs", "--out", tmp_path).out


def test_train_s_options_make_the_run(command, synthetic, tmp_path):
    answer = command(
        "train", "--exp", 3, "--data", synthetic.path, "--out", tmp_path, "--seeds", "5", "--protocol", "as-run",
        "--model", "vit_as_run", "--set", "lr=1e-2", "--set", "dropout=0.25", "--set", "batch_size=40", "--epochs", 1,
        "--amp", "bfloat16", "--device", "cpu", "--pipeline", "resident", "--json",
        "--augment", "flip=0.5,crop=4",
    )  # fmt: skip
    assert answer.code == 0
    (run,) = find_runs(tmp_path)
    spec = json.loads((run.path / "run.json").read_text())["spec"]
    assert spec == {
        "experiment": 3, "protocol": "as-run", "model": "vit_as_run", "batch_size": 40, "lr": 0.01, "l2": 0.0,
        "dropout": 0.25, "recipe": "flip=0.5,crop=4", "seed": 5, "dataset": synthetic.sha256, "epochs": 1,
        "precision": "bfloat16", "pipeline": "resident", "tune": "full", "weights": "none",
        "optimizer": "adam", "schedule": "constant", "smoothing": 0.0, "code": "none",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--exp", 9], "experiment 9 does not exist; there are 1, 2, 3"),
        (["--exp", 2, "--model", "vit"], "has no model 'vit'; there are cnn"),
        (["--exp", 2, "--model", "resnet18"], "has no model 'resnet18'; there are cnn"),
        (["--exp", 2, "--weights", "a.pth"], "--weights a.pth: experiment 2 trains from scratch; --exp 4 does not"),
        (["--exp", 2, "--set", "tune=head"], "cnn is not pretrained; leave tune at 'full'"),
        (["--exp", 4, "--weights", "missing.pth"], "weights missing.pth: there is no such file"),
        (["--exp", 4, "--model", "cnn"], "model 'cnn' is neither one of torchvision's classification networks nor"),
        (["--exp", 4, "--weights", "none", "--set", "tune=some"], "tune 'some' is not one of full, head, as-run"),
        (["--exp", 4, "--weights", "none", "--set", "dropout=0.5"], "mobilenet_v3_small has dropout of its own"),
        (["--exp", 4, "--weights", "none", "--set", "recipe=flips"], "recipe 'flips' does not exist"),
        (["--exp", 2, "--protocol", "best"], "protocol 'best' does not exist; there are sound, report, as-run"),
        (["--exp", 2, "--set", "recipe=flips"], "recipe 'flips' does not exist; there are none, basic, erasing"),
        (["--exp", 2, "--set", "recipe=imagenet256"], "choose another recipe"),
        (["--exp", 2, "--set", "batchsize=64"], "--set batchsize: no such setting; did you mean batch_size?"),
        (["--exp", 2, "--set", "lr=fast"], "--set lr=fast: 'fast' is not of type float"),
        (["--exp", 2, "--epochs", 0], "epochs 0 is outside [1, 100000]"),
        (["--exp", 2, "--pipeline", "garden"], "pipeline 'garden' does not exist; there are"),
        (["--exp", 2, "--device", "gpu"], "device 'gpu' is not one of auto, cpu, cuda, cuda:N"),
        (["--exp", 2, "--device", "cuda:99"], "device 'cuda:99': torch sees"),
        (["--exp", 2, "--amp", "on"], "--amp 'on' is not one of auto, off, bfloat16, float16"),
        (["--exp", 2, "--log", "comet"], "--log 'comet' is not one of none, tensorboard, wandb, mlflow"),
        (["--exp", 2, "--augment", "standrad"], "recipe 'standrad' does not exist; did you mean 'standard'"),
        (["--exp", 2, "--augment", "crop=99"], "crop 99 is outside [0, 31]"),
        (["--exp", 2, "--seeds", ""], "--seeds '' is not a list of different integers such as 0,1,2"),
        (["--exp", 2, "--seeds", "0,0"], "--seeds '0,0' is not a list of different integers"),
        (["--exp", 2, "--seeds", "a"], "--seeds 'a' is not a list of different integers"),
        (["--exp", 2, "--seeds", "-1"], "seed -1 is outside"),
    ],
)
def test_train_s_misuse_names_the_thing_its_value_and_the_cure(command, synthetic, tmp_path, arguments, message):
    answer = command("train", "--data", synthetic.path, "--out", tmp_path, *arguments)
    assert (answer.code, answer.out) == (2, "")
    error = without_news(answer.err)
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.whole
def test_train_takes_weights_from_a_file_or_none(command, synthetic, tmp_path):
    arguments = ("train", "--exp", 4, "--data", synthetic.path, "--out", tmp_path, "--seeds", 0, "--json", *TINY,
                 "--set", "recipe=none")  # fmt: skip
    file = tmp_path / "some.pth"
    torch.save(torchvision.models.mobilenet_v3_small(num_classes=3).state_dict(), file)
    found = {}
    for weights in ("none", file):
        answer = command(*arguments, "--weights", weights)
        assert answer.code == 0, answer.err
        (result,) = json.loads(answer.out)
        spec = json.loads((tmp_path / "exp4" / result["run_id"] / "run.json").read_text())["spec"]
        assert (spec["model"], spec["tune"]) == ("mobilenet_v3_small", "full")
        assert "activations of 32 images take" in answer.err
        found[spec["weights"]] = result
    assert found.keys() == {"none", hashlib.sha256(file.read_bytes()).hexdigest()[:16]}
    assert len({result["run_id"] for result in found.values()}) == 2
    answer = command(*arguments, "--weights", file, "--model", "resnet18")
    assert answer.code == 2
    assert "they are of another network" in answer.err


def test_train_says_offline_what_it_lacks(command, synthetic, tmp_path, monkeypatch):
    def offline(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", offline)
    answer = command("train", "--exp", 4, "--model", "resnet18", "--data", synthetic.path, "--out", tmp_path, *TINY)
    assert (answer.code, answer.out) == (1, "")
    error = without_news(answer.err)
    assert error.startswith("error: the weights resnet18-f37072fd.pth are not in ")
    assert "put it there, or pass --weights PATH (its SHA-256 begins with f37072fd)" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("exp4/*"))


def test_train_logs_to_tensorboard_or_says_that_it_cannot(command, synthetic, tmp_path, monkeypatch):
    arguments = ("train", "--exp", 2, "--data", synthetic.path, "--out", tmp_path, "--seeds", 0, *TINY)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "tensorboard", None)
        without.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
        answer = command(*arguments, "--log", "tensorboard")
        assert (answer.code, answer.out) == (2, "")
        assert "--log tensorboard needs the extra tensorboard" in answer.err
        assert cures.extra("tensorboard") in answer.err
        assert not any(tmp_path.iterdir())
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    assert command(*arguments, "--log", "tensorboard").code == 0
    (run,) = find_runs(tmp_path)
    assert [path.name.startswith("events.out.tfevents.") for path in (run.path / "tensorboard").iterdir()] == [True]


def untimed(run):
    return [{key: value for key, value in line.items() if key not in TIMING} for line in run.metrics()]


@pytest.mark.whole
def test_ctrl_c_stops_and_the_same_command_goes_on(command, digits, tmp_path):
    def arguments(out):
        return "train", "--exp", 2, "--data", digits.path, "--seeds", "0", "--epochs", 20, "--amp", "off", "--device", \
            "cpu", "--out", out  # fmt: skip

    # tests that a shell runs in the background inherit that Ctrl-C is ignored
    heed = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = started(*arguments(tmp_path / "stopped"), **heed)
    while not list(tmp_path.glob("stopped/exp2/*/metrics.jsonl")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    answer = finished(process)
    assert answer.code == 130
    *_, said, following = answer.err.splitlines()
    assert said == "stopped; the same command continues from the last whole epoch"
    assert f"{following}\n" == next_of(*arguments(tmp_path / "stopped"))
    assert "Traceback" not in answer.err
    (stopped,) = find_runs(tmp_path / "stopped")
    assert len(stopped.metrics()) < 20
    assert stopped.summary() is None
    assert json.loads(command("list", "runs", "--out", tmp_path / "stopped", "--json").out) == {
        "runs": [
            {"run": stopped.path.name, "status": "unfinished", "epochs": len(stopped.metrics()), "accuracy, %": ""}
        ]
    }

    assert command(*arguments(tmp_path / "stopped")).code == 0
    assert command(*arguments(tmp_path / "whole")).code == 0
    (whole,) = find_runs(tmp_path / "whole")
    assert untimed(stopped) == untimed(whole)
    assert len(whole.metrics()) == 20
