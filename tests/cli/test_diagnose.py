"""``fastcifar diagnose bn``: the folder that it writes, and how misuse is answered."""

import json
import os
import re
import subprocess
import sys

import pytest
from support.normed import NORMED
from support.text import without_news

from fastcifar.diagnose import record
from fastcifar.diagnose.arms import Evaluation
from fastcifar.diagnose.findings import findings
from fastcifar.diagnose.suspects import TITLES
from fastcifar.diagnose.verdict import NOT_RUN
from fastcifar.system import machine

TINY = ("--model", NORMED, "--weights", "none", "--recipe", "none", "--epochs", 3, "--images", 30, "--batch-size", 8,
        "--device", "cpu", "--momenta", "0.1", "--heads", 3)  # fmt: skip
TIMES = re.compile(r"heads: \d+ s(; seeds: \d+ s; all weights: \d+ s)?\n")


@pytest.mark.whole
def test_the_command_writes_a_folder(command, digits, tmp_path):
    out = tmp_path / "made" / "bn"
    answer = command("diagnose", "bn", "--data", digits.path, "--out", out, *TINY)
    assert answer.code == 0
    assert TIMES.fullmatch(without_news(answer.err)), answer.err
    assert {file.name for file in out.iterdir()} == record.FILES
    summary = json.loads((out / "summary.json").read_text())
    sentences = [one["sentence"] for one in summary["suspects"]]
    assert answer.out.splitlines()[-5:] == [*sentences, f"tables, picture and rows: {out}"]
    assert [one["suspect"] for one in summary["suspects"]] == list(TITLES)
    assert NOT_RUN not in {one["verdict"] for one in summary["suspects"]}
    assert set(summary["seconds"]) == {"heads", "seeds", "all weights"}
    assert summary["images"] == {"training": 30, "validation": 30}
    assert summary["spec"]["dataset"] == digits.sha256
    assert {"device", "environment", "dataset", "steps", "evaluations_an_epoch"} <= summary.keys()
    rows = [json.loads(line) for line in (out / "evaluations.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * (1 + 3 * 2) + 3 * 2
    assert findings([Evaluation(**row) for row in rows])[0].jump == summary["arms"][0]["jump"]
    assert len((out / "seeds.jsonl").read_text().splitlines()) == 2 * 3 * 3
    assert summary["sentence"] in (out / "table.md").read_text()

    refused = command("diagnose", "bn", "--data", digits.path, "--out", out, *TINY)
    assert refused.code == 2
    assert f"{out} exists; choose another --out" in refused.err
    part = ("--suspects", "statistics", "--amp", "bfloat16", "--overwrite", "--json")
    again = command("diagnose", "bn", "--data", digits.path, "--out", out, *TINY, *part)
    assert again.code == 0
    assert [arm["arm"] for arm in json.loads(again.out)["arms"]] == ["training mode, momentum 0.1", "eval mode"]
    assert [one["verdict"] == NOT_RUN for one in json.loads(again.out)["suspects"]] == [True, False, True, True]
    assert json.loads(again.out)["spec"]["precision"] == "bfloat16"
    assert {file.name for file in out.iterdir()} == record.FILES - {"seeds.jsonl"}
    assert json.loads(again.out)["folder"] == str(out)
    assert [path.name for path in out.parent.iterdir()] == ["bn"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model", "squeezenet1_0"],
            "squeezenet1_0 has no BatchNorm with running statistics, which this diagnosis is about",
        ),
        (
            ["--model", "convnext_tiny"],
            "convnext_tiny has no BatchNorm with running statistics, which this diagnosis is about",
        ),
        (["--model", "resnet19"], "model 'resnet19' is neither one of torchvision's"),
        (["--momenta", "fast"], "--momenta 'fast' is not a list of numbers such as 0.1,0.01"),
        (["--momenta", "2"], "momenta 2.0: give different numbers in (0, 1] with --momenta"),
        (["--weights", "none", "--images", 1], "--images 1 is below 2; give at least 2"),
        (
            ["--weights", "none", "--epochs", 2, "--images", 30, "--batch-size", 8],
            "--epochs 2 is too few",
        ),
        (
            ["--weights", "none", "--images", 29, "--batch-size", 14, "--recipe", "none"],
            "batch_size 14: the last batch of the 29 training images has a single image, and resnet18 has BatchNorm",
        ),
        (
            ["--weights", "none", "--recipe", "basic"],
            "recipe 'basic' draws random numbers, and the suspect split needs",
        ),
        (["--suspects", "drift,spilt"], "suspect 'spilt' does not exist; did you mean 'split'"),
        (["--amp", "half"], "--amp 'half' is not one of auto, off, bfloat16, float16"),
        (["--model", NORMED, "--weights", "none"], "does not say which images its weights want; name their recipe"),
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
