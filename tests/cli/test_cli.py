"""The command as people and scripts meet it: what is printed where, exit codes, and no traceback unless asked for."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from urllib.error import URLError

import pytest
import torch
import torchvision
from PIL import Image
from support.builders import class_folders, kaggle, packed
from support.command import Answer
from support.kept import kept, saying

import fastcifar
from fastcifar.cli import app, demo
from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.runs.directory import TIMING, find_runs
from fastcifar.system import doctor, machine

COMMANDS = ("convert", "verify", "train", "predict", "runs", "list", "preview", "doctor", "demo")


def started(*arguments, **options):
    """``python -m fastcifar`` as a process of its own, on one thread as the tests are."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "fastcifar", *map(str, arguments)],
        cwd=machine.CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finished(process):
    out, err = process.communicate(timeout=120)
    return Answer(process.returncode, out, err)


# help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_s_help_has_an_example(command, name):
    answer = command(name, "--help")
    assert answer.code == 0
    assert re.search(f"Examples?: fastcifar {name}", answer.out)
    assert f"Usage: fastcifar {name}" in answer.out


def test_help_and_version(command):
    answer = command("--help")
    assert answer.code == 0
    assert all(re.search(rf"│ {name} ", answer.out) for name in COMMANDS)
    assert command("--version").out == f"fastcifar {fastcifar.__version__}\n"
    assert "Usage: fastcifar" in command().out + command().err


def test_help_answers_at_once():
    """Without importing what takes seconds to import."""
    code = (
        "import sys\nfrom fastcifar.cli.app import main\nsys.argv = ['fastcifar', 'train', '--help']\n"
        "try: main()\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=machine.CHECKOUT)
    assert "typer" in ran.stderr.split()
    assert not {"torch", "numpy", "numba", "matplotlib"} & set(ran.stderr.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(command, monkeypatch, shell):
    monkeypatch.setenv("_FASTCIFAR_COMPLETE", f"source_{shell}")
    answer = command()
    assert answer.code == 0
    assert "_FASTCIFAR_COMPLETE=complete_" + shell in answer.out


def test_completion_completes(command, monkeypatch):
    monkeypatch.setenv("_FASTCIFAR_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "fastcifar tr")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert command().out.split() == ["train"]


# datasets


def test_a_conversion_that_is_terminated_leaves_nothing_behind(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "fastcifar", "convert", "synthetic:2000000", str(tmp_path / "ds")]
    )
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert any(tmp_path.iterdir())
    process.terminate()
    assert process.wait(60) == 143
    assert list(tmp_path.iterdir()) == []


def test_convert_and_verify(command, tmp_path):
    dest = tmp_path / "data"
    answer = command("convert", "synthetic:50", dest)
    assert (answer.code, answer.err) == (0, "")  # no progress bar where nobody looks
    assert answer.out.startswith(f"{dest}: 50 train, 10 test images of 10 classes, from synthetic:50")
    sha256 = Dataset.open(dest).sha256
    answer = command("verify", dest)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"{dest}: all 5 files are as they were written ({sha256[:12]})\n"
    assert json.loads(command("verify", dest, "--json").out) == {"path": str(dest), "sha256": sha256, "files": 5}

    again = command("convert", "synthetic:50", dest)
    assert (again.code, again.out) == (2, "")
    assert again.err == f"error: {dest} exists; choose another DEST, or replace the dataset there with --overwrite\n"
    answer = command("convert", "synthetic:60", dest, "--overwrite", "--split-seed", 3, "--json")
    manifest = json.loads(answer.out)
    assert (manifest["counts"]["train"], manifest["split_seed"]) == (60, 3)
    assert manifest == Dataset.open(dest).manifest

    (dest / "split.npy").write_bytes(b"x")
    answer = command("verify", dest)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == f"error: {dest} is not as it was written: split.npy differs from what was written\n"


def test_convert_s_misuse(command, tmp_path):
    answer = command("convert", "synthetic:50", tmp_path / "d", "--formats", "raw,webp")
    assert (answer.code, answer.err) == (2, "error: unknown format 'webp'; there are raw, ffcv, dali\n")
    answer = command("convert", tmp_path / "[no] such", tmp_path / "d")
    assert answer.code == 2
    assert "[no] such" in answer.err  # brackets are no markup
    assert not (tmp_path / "d").exists()


# training

TINY = ("--epochs", 2, "--set", "batch_size=32", "--amp", "off", "--device", "cpu")


def test_train_trains_three_seeds_and_tabulates_them(command, synthetic, tmp_path):
    answer = command("train", "--exp", 2, "--data", synthetic.path, "--out", tmp_path, *TINY)
    assert answer.code == 0
    # quiet where nobody looks: one line, and no bars or colours
    assert answer.err == f"{synthetic.name} on cpu, float32, 3 runs into {tmp_path}/exp2\n"
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


def test_train_s_options_make_the_run(command, synthetic, tmp_path):
    answer = command(
        "train", "--exp", 3, "--data", synthetic.path, "--out", tmp_path, "--seeds", "5", "--protocol", "as-run",
        "--model", "vit_as_run", "--set", "lr=1e-2", "--set", "dropout=0.25", "--set", "batch_size=40", "--epochs", 1,
        "--amp", "bfloat16", "--device", "cpu", "--pipeline", "resident", "--json",
    )  # fmt: skip
    assert answer.code == 0
    (run,) = find_runs(tmp_path)
    spec = json.loads((run.path / "run.json").read_text())["spec"]
    assert spec == {
        "experiment": 3, "protocol": "as-run", "model": "vit_as_run", "batch_size": 40, "lr": 0.01, "l2": 0.0,
        "dropout": 0.25, "recipe": "none", "seed": 5, "dataset": synthetic.sha256, "epochs": 1,
        "precision": "bfloat16", "pipeline": "resident", "tune": "full", "weights": "none",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--exp", 9], "experiment 9 does not exist; there are 1, 2, 3"),
        (["--exp", 2, "--model", "vit"], "has no model 'vit'; there are cnn"),
        (["--exp", 2, "--model", "resnet18"], "has no model 'resnet18'; there are cnn"),
        (["--exp", 2, "--weights", "a.pth"], "--weights a.pth: experiment 2 trains from scratch; --exp 4 does not"),
        (["--exp", 2, "--set", "tune=head"], "cnn is trained as a whole and from scratch"),
        (["--exp", 4, "--weights", "missing.pth"], "weights missing.pth: No such file or directory"),
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
        (["--exp", 2, "--log", "wandb"], "--log 'wandb' is not one of none, tensorboard"),
        (["--exp", 2, "--seeds", ""], "--seeds '' is not a list of different integers such as 0,1,2"),
        (["--exp", 2, "--seeds", "0,0"], "--seeds '0,0' is not a list of different integers"),
        (["--exp", 2, "--seeds", "a"], "--seeds 'a' is not a list of different integers"),
        (["--exp", 2, "--seeds", "-1"], "seed -1 is outside"),
    ],
)
def test_train_s_misuse_names_the_thing_its_value_and_the_cure(command, synthetic, tmp_path, arguments, message):
    answer = command("train", "--data", synthetic.path, "--out", tmp_path, *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert not any(tmp_path.iterdir())


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
    assert answer.err.startswith("error: the weights resnet18-f37072fd.pth are not in ")
    assert "put it there, or say --weights PATH (its SHA-256 begins with f37072fd)" in answer.err
    assert answer.err.count("\n") == 1
    assert not list(tmp_path.glob("exp4/*"))


def test_train_logs_to_tensorboard_or_says_that_it_cannot(command, synthetic, tmp_path, monkeypatch):
    arguments = ("train", "--exp", 2, "--data", synthetic.path, "--out", tmp_path, "--seeds", 0, *TINY)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "tensorboard", None)
        without.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
        answer = command(*arguments, "--log", "tensorboard")
        assert (answer.code, answer.out) == (2, "")
        assert "--log tensorboard needs the extra tensorboard" in answer.err
        assert "pip install tensorboard, or pip install 'fastcifar[tensorboard]'" in answer.err
        assert not any(tmp_path.iterdir())
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    assert command(*arguments, "--log", "tensorboard").code == 0
    (run,) = find_runs(tmp_path)
    assert [path.name.startswith("events.out.tfevents.") for path in (run.path / "tensorboard").iterdir()] == [True]


@pytest.mark.parametrize("arguments", [["train"], ["train", "--exp", "two"], ["trian"], ["list", "--colour"]])
def test_misuse_that_the_parser_finds(command, arguments):
    answer = command(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert "Usage: fastcifar" in answer.err


def test_there_is_a_hint_where_there_is_no_dataset(command, tmp_path):
    answer = command("train", "--exp", 2, "--data", tmp_path / "none")
    assert answer.code == 2
    assert answer.err == (
        f"error: there is no dataset at {tmp_path / 'none'}; make one with: fastcifar convert SRC DEST\n"
    )


def test_errors_of_the_operating_system_name_their_file(command, synthetic, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    answer = command("train", "--exp", 2, "--data", synthetic.path, "--out", tmp_path / "file", *TINY)
    assert answer.code == 1
    assert re.fullmatch(rf"error: {tmp_path}/file/.*: Not a directory\n", answer.err.splitlines(True)[-1])

    def broken(*_, **__):
        raise OSError("libgarden.so: cannot open shared object file")

    monkeypatch.setattr("fastcifar.runs.plan.headline_runs", broken)
    answer = command("train", "--exp", 2, "--data", synthetic.path)
    assert (answer.code, answer.err) == (1, "error: libgarden.so: cannot open shared object file\n")


def test_debug_shows_the_traceback(tmp_path):
    arguments = ("verify", tmp_path / "none")
    quiet, debug = started(*arguments), started("--debug", *arguments)
    answer = finished(quiet)
    assert (answer.code, answer.out) == (2, "")
    assert (
        answer.err == f"error: there is no dataset at {tmp_path / 'none'}; make one with: fastcifar convert SRC DEST\n"
    )
    answer = finished(debug)
    assert answer.code != 0
    assert "Traceback (most recent call last)" in answer.err
    assert "UsageError: there is no dataset at" in answer.err


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fastcifar", "list", "recipes"])
    monkeypatch.setattr("fastcifar.cli.list.console", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        app.main()


def untimed(run):
    return [{key: value for key, value in line.items() if key not in TIMING} for line in run.metrics()]


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
    assert answer.err.splitlines()[-1] == "stopped; the same command goes on from the last whole epoch"
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


# predicting

SURE, UNSURE = [0.91, *[0.01] * 9], [0.1, 0.82, *[0.01] * 8]


@pytest.fixture(scope="module")
def kaggles(tmp_path_factory):
    """Seven test images without labels, of ids 1 to 7."""
    folder = tmp_path_factory.mktemp("kaggle")
    return convert(str(packed(kaggle(), "folder", folder / "files")), folder / "dataset")


def test_predict_writes_a_submission(command, kaggles, tmp_path):
    runs = kept(kaggles, tmp_path, saying(SURE)), kept(kaggles, tmp_path, saying(UNSURE), seed=1)
    out = tmp_path / "submission.csv"
    answer = command("predict", *runs, "--data", kaggles.path, "--out", out, "--device", "cpu")
    assert answer == Answer(0, f"{out}: 7 rows by 2 runs, tta none\n", "")
    assert out.read_text() == "id,label\n" + "".join(f"{number},airplane\n" for number in range(1, 8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp2", "submission.csv"]  # and no picture
    answer = command("predict", runs[1], "--data", kaggles.path, "--out", out, "--tta", "flip", "--json")
    assert json.loads(answer.out) == {
        "runs": [str(runs[1])], "split": "test", "tta": "flip", "out": str(out), "rows": 7,
    }  # fmt: skip
    assert out.read_text().splitlines()[7] == "7,automobile"


def test_predict_says_how_good_it_is_where_labels_are_known(command, synthetic, tmp_path):
    run, out = kept(synthetic, tmp_path, saying(SURE)), tmp_path / "s.csv"
    labels = synthetic.labels("train")[synthetic.ids("validation")]
    right = float((labels == 0).mean())
    answer = command("predict", run, "--data", synthetic.path, "--split", "val", "--out", out, "--device", "cpu")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0] == f"{synthetic.name}, validation: 1 run, tta none"
    figures = next(line for line in lines if line.startswith("│     20"))
    assert f" {100 * right:.2f} " in figures
    assert f" {100 * abs(right - 0.91):.2f} " in figures  # the calibration error: all confidences are 0.91
    assert "Confusion: a row a true class" in answer.out
    assert lines[-2:] == [f"picture: {tmp_path / 's.png'}", f"{out}: 20 rows by 1 run, tta none"]
    with Image.open(tmp_path / "s.png") as image:
        image.verify()
    rows = synthetic.ids("validation") + 1
    assert out.read_text().splitlines()[1:] == [f"{row},{synthetic.classes[0]}" for row in rows]

    picture = tmp_path / "elsewhere.png"
    answer = command("predict", run, "--data", synthetic.path, "--json", "--picture", picture, "--device", "cpu")
    result = json.loads(answer.out)  # of test, which is labelled here
    assert (result["split"], result["images"], result["picture"]) == ("test", 20, str(picture))
    assert result["accuracy"] == float((synthetic.labels("test") == 0).mean())
    assert sum(map(sum, result["confusion"])) == 20
    assert picture.exists()
    answer = command("predict", run, "--data", synthetic.path, "--split", "val", "--json")
    assert "picture" not in json.loads(answer.out)


def test_predict_s_notes(command, synthetic, kaggles, tmp_path):
    """Both datasets are of CIFAR-10's classes."""
    run, out = kept(synthetic, tmp_path, saying(SURE), summary={}), tmp_path / "s.csv"
    answer = command("predict", run, "--data", kaggles.path, "--out", out)
    assert answer.code == 0
    assert answer.err.splitlines() == [
        f"{run} is not finished; its weights are those of epoch 3",
        f"{run} was trained on another dataset, {synthetic.name}; images of {kaggles.path} may be among those it was "
        "trained on",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}"], "has no labels of its 7 test images, so there is nothing to say of accuracy; give --out"),
        (["{run}", "--out", "{tmp}/s.csv", "--picture", "{tmp}/s.png"], "nothing to say of accuracy; leave out --pict"),
        (["{run}", "--out", "{tmp}/s.txt"], "s.txt: a submission is a CSV file; call it s.txt.csv, for example"),
        (["{run}", "--out", "{tmp}/s"], "s: a submission is a CSV file; call it s.csv, for example"),
        (["{run}", "--out", "{tmp}/no/s.csv"], "s.csv: there is no folder {tmp}/no; make it first: mkdir -p {tmp}/no"),
        (["{run}", "--out", "{tmp}/folder.csv"], "is a directory; name a file, say {tmp}/folder.csv/predicted.csv"),
        (["{run}", "--split", "val", "--picture", "{tmp}/s.jpg"], "the picture is a PNG file; call it s.jpg.png"),
        (["{run}", "--split", "tset"], "unknown split 'tset'; there are training, validation, labelled, test"),
        (["{run}", "--out", "{tmp}/s.csv", "--tta", "spin"], "--tta 'spin' does not exist; there are none, flip"),
        (["{run}", "--amp", "on"], "--amp 'on' is not one of auto, off, bfloat16, float16"),
        (["{run}", "--device", "gpu"], "device 'gpu' is not one of auto, cpu, cuda, cuda:N"),
        (["{run}", "{run}"], "are the same run, "),
        (["{tmp}"], "{tmp} is not a run directory, as it has no run.json"),
        (["{others}", "--out", "{tmp}/s.csv"], "tells 2 classes apart (ant, cat), but "),
    ],
)
def test_predict_s_misuse_names_the_thing_its_value_and_the_cure(command, kaggles, tmp_path, arguments, message):
    other = convert(str(packed(class_folders(), "folder", tmp_path / "images")), tmp_path / "other")
    places = {"tmp": tmp_path, "run": kept(kaggles, tmp_path / "runs", saying(SURE))}
    places["others"] = kept(other, tmp_path / "runs", saying([0.5, 0.5]), seed=1)
    (tmp_path / "folder.csv").mkdir()
    before = sorted(tmp_path.iterdir())
    answer = command("predict", *(text.format(**places) for text in arguments), "--data", kaggles.path)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    assert message.format(**places) in answer.err
    assert answer.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


# looking


def test_list_is_a_table_or_json(command, tmp_path):
    answer = command("list", "--out", tmp_path)
    assert (answer.code, answer.err) == (0, "")
    for word in ("experiments", "recipes", "pipelines", "runs", "resident", "erasing", "mlp_l"):
        assert word in answer.out
    sections = json.loads(command("list", "--out", tmp_path, "--json").out)
    assert list(sections) == ["experiments", "recipes", "pipelines", "runs"]
    assert json.loads(command("list", "recipes", "--json").out) == {"recipes": sections["recipes"]}
    answer = command("list", "models")
    assert (answer.code, answer.out) == (2, "")
    assert "nothing is called 'models' here; there are experiments" in answer.err


def test_preview_draws_a_picture(command, synthetic, tmp_path):
    out = tmp_path / "pictures" / "erasing.png"
    answer = command("preview", "--data", synthetic.path, "--rows", 2, "--columns", 3, "--out", out)
    assert answer == Answer(0, f"{out}: 2 images, each as it is and in 3 draws of erasing\n", "")
    with Image.open(out) as image:
        assert image.size == (4 * 98 + 2, 2 * 98 + 2)
    first = out.read_bytes()
    command("preview", "--data", synthetic.path, "--rows", 2, "--columns", 3, "--out", out, "--seed", 1)
    assert out.read_bytes() != first
    answer = command("preview", "--data", synthetic.path, "--recipe", "flips", "--out", out)
    assert (answer.code, answer.out) == (2, "")
    assert "recipe 'flips' does not exist; there are none" in answer.err


def test_doctor_fails_when_something_required_is_missing(command, monkeypatch):
    def finding(ok, required):
        return doctor.Finding("libgarden", ok, "not found" if not ok else "1.0", "plant one", required)

    for ok, required, code in ((True, True, 0), (False, False, 0), (False, True, 1)):
        monkeypatch.setattr(doctor, "diagnose", lambda found=finding(ok, required): [found])
        answer = command("doctor")
        assert answer.code == code
        assert "libgarden" in answer.out
        answer = command("doctor", "--json")
        assert (answer.code, answer.err) == (code, "")
        assert json.loads(answer.out) == doctor.rows([finding(ok, required)])


def test_demo_shows_results_a_picture_and_what_to_type_next(command, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "EPOCHS", 2)
    monkeypatch.setattr("fastcifar.data.formats.extra_formats", only_dali)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    converted = []
    monkeypatch.setattr(
        "fastcifar.data.convert.convert",
        lambda source, folder, formats, **more: converted.append(formats) or convert(source, folder, **more),
    )
    answer = command("demo", tmp_path / "demo")
    assert answer.code == 0
    assert converted == [["raw", "dali"]]
    notes = answer.err.splitlines()
    assert notes[0] == "going on without the ffcv form: no compiler here"
    assert re.fullmatch(r"digits.* in raw, dali; training 3 seeds, 2 epochs, cpu, (bfloat16|float32)", notes[1])
    assert len(notes) == 2
    assert re.search(r"cnn-basic-b128-lr0.001-l2_0-d0.5-sound .* 3 .* ± ", answer.out)
    assert f"picture: {tmp_path / 'demo' / 'curves.png'}" in answer.out
    assert (tmp_path / "demo" / "curves.png").exists()
    assert "fastcifar convert cifar-10.zip data/cifar10\n" in answer.out
    assert len(find_runs(tmp_path / "demo" / "runs")) == 3
    assert command("demo", tmp_path / "demo").code == 0  # again, over what is there


def only_dali(names):
    if "ffcv" in names:
        raise UsageError("no compiler here")
    return {}
