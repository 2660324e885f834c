"""``fastcifar grid``: misuse is told and changes nothing."""

import json
import sys

import pytest

from fastcifar.cli.grid import _named
from fastcifar.grid.speeds import Kind, Speed


def test_a_time_that_completes_no_claim_is_refused(command, synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "fastcifar.grid.speeds.Speeds.of", lambda _, specs: {kind: Speed(10.0, 10.0) for kind in map(Kind.of, specs)}
    )
    arguments = ("grid", "--for-report", "--exp", "1", "--data", synthetic.path, "--out", tmp_path / "runs")
    answer = command(*arguments, "--budget", "1m")
    assert answer.code == 2
    assert answer.err.splitlines()[-1].startswith(
        "error: --budget 1m: for the report: no claim can be completed in this"
    )
    assert answer.err.endswith("mlp-s needs the least, 50 min at most; give more time\n")
    assert "left out" in answer.out
    assert not (tmp_path / "runs").exists()
    answer = command(*arguments, "--budget", "1h", "--dry-run", "--json")
    plan = json.loads(answer.out)
    assert [claim["claim"] for claim in plan["report"]["completed"]] == ["mlp-s", "mlp-s-losses"]
    assert plan["runs"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "grid needs experiments; give --exp 1,2,3,4 or --exp all, or --for-report"),
        (("--for-report", "--budget", "2x"), "--budget '2x' is not a time; write it as 90s, 45m, 2h or 1h30m"),
        (("--exp", "7"), "experiment 7 does not exist"),
        (("--exp", "cnn"), "--exp 'cnn' is not an experiment's number"),
        (("--exp", "2", "--only", "lr=7"), "no configuration fits --only lr=7.0; did you mean 0.01?"),
        (("--exp", "2", "--only", "recipe=basic,erasng"), "fits --only recipe=erasng; did you mean erasing?"),
        (("--exp", "2", "--only", "batch_size=64,130"), "fits --only batch_size=130; did you mean 128?"),
        (("--exp", "2", "--only", "model=cn"), "no configuration fits --only model=cn; there is cnn"),
        (("--exp", "2", "--only", "recipe="), "--only recipe= has no value"),
        (
            ("--exp", "2,4", "--only", "model=cnn", "--only", "recipe=basic,imagenet256"),
            "fits --only recipe=imagenet256 beside --only model=cnn; there are basic, erasing, none",
        ),
        (("--exp", ","), "--exp names nothing; give at least one value"),
        (("--exp", "2", "--protocol", ","), "--protocol names nothing; give at least one value"),
        (("--exp", "2", "--protocol", "sound,reprot"), "protocol 'reprot' does not exist; did you mean 'report'?"),
        (("--exp", "2", "--only", "learning=7"), "--only learning: no such field"),
        (("--exp", "2", "--seeds", "0,0"), "names a seed twice"),
        (("--exp", "2", "--seeds", "a"), "is not a list of seeds; write a list such as 0,1,2 or a span"),
        (("--exp", "2", "--budget", "soon"), "is not a time; write it as 90s"),
        (("--exp", "2", "--executor", "slurm"), "--executor 'slurm' does not exist; there are local, ray"),
        (("--exp", "2", "--way", "magic"), "--way 'magic' does not exist; there are auto, serial"),
        (("--exp", "2", "--address", "auto"), "add --executor ray"),
        (("--exp", "2", "--log", "comet"), "--log 'comet' is not one of"),
        (("--exp", "2", "--model", "vit"), "is for your own network, package.module:factory; choose"),
        (("--exp", "4", "--model", "net:make"), "net:make has no published weights; give their file with"),
        (("--exp", "2", "--set", "lr=1e-3,fast"), "--set lr=fast: 'fast' is not of type float"),
    ],
)
def test_misuse_is_told_and_changes_nothing(synthetic, tmp_path, monkeypatch, capsys, arguments, message):
    from fastcifar.cli import app

    out = tmp_path / "runs"
    monkeypatch.setattr(
        sys, "argv", ["fastcifar", "grid", *arguments, "--data", str(synthetic.path), "--out", str(out)]
    )
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_runs_of_one_label_but_of_two_experiments_or_weights_are_shown_apart():
    grouped = {("a", 2, "none"): [1], ("a", 4, "0123"): [2], ("b", 4, "0123"): [3]}
    named = {"a, experiment 2, weights none": [1], "a, experiment 4, weights 0123": [2], "b": [3]}
    assert _named(grouped) == named
