"""``fastcifar grid``: misuse is told and changes nothing."""

import sys

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--exp", "7"), "experiment 7 does not exist"),
        (("--exp", "cnn"), "--exp 'cnn' is not an experiment's number"),
        (("--exp", "2", "--only", "lr=7"), "no configuration fits --only lr=7"),
        (("--exp", "2", "--only", "learning=7"), "--only learning: no such field"),
        (("--exp", "2", "--seeds", "0,0"), "names a seed twice"),
        (("--exp", "2", "--seeds", "a"), "is not a list of seeds; write a list such as 0,1,2 or a span"),
        (("--exp", "2", "--budget", "soon"), "is not a time; write it as 90s"),
        (("--exp", "2", "--executor", "slurm"), "is not one of local, ray"),
        (("--exp", "2", "--way", "magic"), "is not one of auto, serial"),
        (("--exp", "2", "--address", "auto"), "add --executor ray"),
        (("--exp", "2", "--log", "comet"), "--log 'comet' is not one of"),
        (("--exp", "2", "--model", "vit"), "is for your own network, package.module:factory; choose"),
        (("--exp", "4", "--model", "net:make"), "published networks; train net:make with --exp 2"),
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
