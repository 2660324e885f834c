"""``fastcifar diagnose bn``: the folder that it writes, and how misuse is answered."""

import json
import os
import subprocess
import sys

import pytest
from support.text import without_news

from fastcifar.diagnose import record
from fastcifar.diagnose.batchnorm import Evaluation
from fastcifar.diagnose.verdict import findings
from fastcifar.system import machine

TINY = ("--weights", "none", "--recipe", "none", "--epochs", 2, "--last", 3, "--images", 30, "--batch-size", 8,
        "--device", "cpu", "--momenta", "0.1")  # fmt: skip


@pytest.mark.whole
def test_the_command_writes_a_folder(command, digits, tmp_path):
    out = tmp_path / "made" / "bn"
    answer = command("diagnose", "bn", "--data", digits.path, "--out", out, *TINY)
    assert (answer.code, without_news(answer.err)) == (0, "")
    assert {file.name for file in out.iterdir()} == record.FILES
    summary = json.loads((out / "summary.json").read_text())
    assert answer.out.splitlines()[-2:] == [summary["sentence"], f"tables, picture and rows: {out}"]
    assert summary["images"] == {"training": 30, "validation": 30}
    assert summary["spec"]["dataset"] == digits.sha256
    assert {"device", "environment", "dataset", "steps", "evaluations_an_epoch"} <= summary.keys()
    rows = [json.loads(line) for line in (out / "evaluations.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * (1 + 2 * 3)
    assert findings([Evaluation(**row) for row in rows])[0].jump == summary["arms"][0]["jump"]
    assert summary["sentence"] in (out / "table.md").read_text()

    refused = command("diagnose", "bn", "--data", digits.path, "--out", out, *TINY)
    assert refused.code == 2
    assert f"{out} exists; choose another --out" in refused.err
    again = command("diagnose", "bn", "--data", digits.path, "--out", out, *TINY, "--overwrite", "--json")
    assert (again.code, without_news(again.err)) == (0, "")
    assert json.loads(again.out)["arms"] == summary["arms"]
    assert json.loads(again.out)["folder"] == str(out)
    assert [path.name for path in out.parent.iterdir()] == ["bn"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "squeezenet1_0"], "squeezenet1_0 has no BatchNorm with running statistics, so none can drift"),
        (["--model", "convnext_tiny"], "convnext_tiny has no BatchNorm with running statistics, so none can drift"),
        (["--model", "resnet19"], "model 'resnet19' is neither one of torchvision's"),
        (["--momenta", "fast"], "--momenta 'fast' is not a list of numbers such as 0.1,0.01"),
        (["--momenta", "2"], "momenta 2.0: give different numbers in (0, 1] with --momenta"),
        (["--weights", "none", "--images", 0], "--images 0 is below 1; give at least 1"),
        (
            ["--weights", "none", "--epochs", 1, "--images", 30, "--batch-size", 8],
            "1 epochs of 4 steps, each with 4 evaluations: at least 2 epochs and 3 evaluations are needed",
        ),
        (
            ["--weights", "none", "--images", 29, "--batch-size", 14, "--recipe", "none"],
            "batch_size 14: the last batch of the 29 training images has a single image, and resnet18 has BatchNorm",
        ),
        (["--weights", "nowhere.pth"], "weights nowhere.pth: there is no such file"),
    ],
)
def test_what_cannot_be_is_refused_at_once(command, digits, tmp_path, arguments, message):
    answer = command("diagnose", "bn", "--data", digits.path, "--out", tmp_path / "bn", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert not any(tmp_path.iterdir())


def test_help_has_an_example_and_answers_at_once(command):
    answer = command("diagnose", "bn", "--help")
    assert answer.code == 0
    assert "Example: fastcifar diagnose bn" in answer.out
    assert "Settle a question about training" in command("diagnose", "--help").out
    code = "import sys, fastcifar.cli.diagnose; print(*sys.modules)"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=machine.CHECKOUT, env=environment
    )
    assert not {"torch", "numpy", "matplotlib"} & set(ran.stdout.split())
