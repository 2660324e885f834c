"""Shell completion offers values, at once: no answer imports torch."""

import os
import subprocess
import sys

import pytest
from support import ROOT
from support.specs import SPEC
from support.written_runs import write_run

from fastcifar.experiments import EXPERIMENTS, PROTOCOLS
from fastcifar.recipes import RECIPES
from fastcifar.runs.settings import SETTABLE


@pytest.fixture
def completed(command, monkeypatch, tmp_path):
    """What a shell is offered for the last word of a line. bash: the words as bash cuts them."""
    monkeypatch.chdir(tmp_path)

    def complete(line, shell="bash"):
        words = line if isinstance(line, list) else line.split(" ")
        monkeypatch.setenv("_FASTCIFAR_COMPLETE", f"complete_{shell}")
        if shell == "bash":
            monkeypatch.setenv("COMP_WORDS", "\n".join(words))
            monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        else:
            monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
            monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        return command().out.split()

    return complete


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fastcifar train --exp ", {str(number) for number in EXPERIMENTS}),
        ("fastcifar grid --exp 1,", {"1,2", "1,3", "1,4", "1,all"}),
        ("fastcifar train --protocol ", set(PROTOCOLS)),
        ("fastcifar grid --protocol sound,a", {"sound,as-run", "sound,all"}),
        ("fastcifar train --exp 1 --model ", {"mlp_s", "mlp_l"}),
        ("fastcifar train --exp 4 --model resnet1", {"resnet18", "resnet101", "resnet152"}),
        ("fastcifar train --set ", {f"{key}=" for key in SETTABLE}),
        ("fastcifar grid --only mod", {"model="}),
        ("fastcifar runs --only stat", {"status="}),
        ("fastcifar runs --sort val", {"val_accuracy", "val_loss"}),
        ("fastcifar train --compile ", {"auto", "graph", "inductor", "none"}),
        ("fastcifar train --log ", {"none", "tensorboard", "wandb", "mlflow"}),
        ("fastcifar train --amp b", {"bfloat16"}),
        ("fastcifar train --pipeline re", {"resident"}),
        ("fastcifar preview --recipe ", set(RECIPES)),
        ("fastcifar list ", {"experiments", "recipes", "pipelines", "runs", "all"}),
        ("fastcifar convert digits d --formats raw,", {"raw,ffcv", "raw,dali"}),
        ("fastcifar predict run --tta ", {"none", "flip"}),
        ("fastcifar predict run --split val", {"val", "valid", "validation"}),
        ("fastcifar grid --way s", {"serial", "side-by-side"}),
        ("fastcifar grid --executor ", {"local", "ray"}),
    ],
)
def test_values_are_offered(completed, line, offered):
    assert set(completed(line)) == offered


def test_devices_are_those_of_this_machine(completed):
    assert {"auto", "cpu", "cuda"} <= set(completed("fastcifar train --device "))


def test_bash_cuts_words_and_gets_the_part_after_the_cut(completed):
    cut = ["fastcifar", "train", "--set", "optimizer", "=", "ad"]
    assert completed(cut) == ["adam", "adamw"]
    assert completed([*cut[:-1], ""]) == ["adam", "adamw", "sgd", "muon"]
    assert completed(cut[:-1]) == ["adam", "adamw", "sgd", "muon"]
    assert completed(["fastcifar", "grid", "--set", "tune", "=", "full,h"]) == ["full,head"]
    assert completed(["fastcifar", "grid", "--set", "lr", "=", ""]) == []
    assert completed(["fastcifar", "train", "--data", "a", "=", "b", "--compile", "gr"]) == ["graph"]


def test_other_shells_get_whole_words(completed):
    assert completed("fastcifar train --set optimizer=ad", "fish") == ["optimizer=adam", "optimizer=adamw"]


def test_runs_are_offered_by_the_start_of_their_ids(completed, tmp_path, monkeypatch):
    directory = write_run(tmp_path / "runs", SPEC, [0.5])
    other = write_run(tmp_path / "elsewhere", SPEC.with_seed(1), [0.5])
    assert completed("fastcifar runs --diff cnn-ba") == [directory.path.name]
    assert completed("fastcifar runs --out elsewhere --diff cnn-ba") == [other.path.name]
    assert completed("fastcifar runs --diff mlp") == []
    inside = directory.path.relative_to(tmp_path)
    assert completed("fastcifar predict ") == [str(inside)]
    assert completed("fastcifar predict runs/exp2/c") == [str(inside)]
    assert completed("fastcifar predict ru") == ["runs/"]
    assert completed("fastcifar predict *") == []
    monkeypatch.setenv("HOME", str(tmp_path))
    assert completed("fastcifar predict ~/ru") == ["~/runs/"]
    assert completed("fastcifar predict ~/runs/exp2/c") == [f"~/{inside}"]
    assert completed("fastcifar predict ~nobody_here/") == []


@pytest.mark.parametrize(
    "line",
    [
        "train --exp 4 --model r",
        "train --set optimizer=",
        "runs --diff c",
        "list ",
        "train --log ",
        "grid --way ",
        "predict run --tta ",
        "convert digits d --formats ",
    ],
)
def test_an_answer_imports_no_torch(line, tmp_path):
    code = (
        "import sys\nfrom fastcifar.cli.app import main\ntry: main()\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    words = f"fastcifar {line}"
    environment = {
        **os.environ, "_FASTCIFAR_COMPLETE": "complete_bash", "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert ran.stdout.strip() or "--diff" in line
    assert not {"torch", "torchvision", "numba", "matplotlib"} & set(ran.stderr.split())


def test_a_file_of_options_that_cannot_be_read_does_not_disturb(completed):
    assert completed("fastcifar train --config none.yaml --compile gr") == ["graph"]
