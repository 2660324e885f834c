"""``--config``: a file's values are the options' values, the command line wins, and what is wrong is said."""

import json
import sys

import pytest
from support.command import TINY

from fastcifar.runs.directory import find_runs


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "options.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_train_takes_its_options_from_a_file(command, synthetic, tmp_path, config):
    path = config(f"""
exp: 2
data: {synthetic.path}
out: {tmp_path}
seeds: [3, 4]
epochs: 1
amp: off  # which YAML by itself takes for false
device: cpu
json: true
set:
  lr: 1e-3
  batch_size: 32
  recipe: none
  optimizer: sgd
""")
    answer = command("train", "--config", path, "--set", "lr=0.5", "--seeds", "7")
    assert answer.code == 0, answer.err
    (run,) = find_runs(tmp_path)
    spec = json.loads((run.path / "run.json").read_text())["spec"]
    expected = {"lr": 0.5, "batch_size": 32, "seed": 7, "epochs": 1, "precision": "float32", "optimizer": "sgd"}
    assert {key: spec[key] for key in expected} == expected
    assert json.loads(answer.out)[0]["run_id"] == run.path.name


def test_epochs_of_the_command_line_win_in_either_form(command, synthetic, tmp_path, config):
    path = config(f"exp: 2\ndata: {synthetic.path}\nseeds: 0\nepochs: 9\nset: {{batch_size: 64, recipe: none}}\n")
    for n, option in enumerate((("--set", "epochs=1"), ("--epochs", "1"))):
        out = tmp_path / str(n)
        answer = command("train", "--config", path, *option, "--out", out, "--device", "cpu", "--json")
        assert answer.code == 0, answer.err
        assert json.loads(answer.out)[0]["epochs"] == 1


def test_grid_combines_the_values_of_a_file(command, synthetic, tmp_path, config, monkeypatch):
    from fastcifar.packs.choice import Calibration, Measured

    monkeypatch.setattr(Calibration, "of", lambda *_: Measured("serial", {"serial": 100.0}, 1))
    path = config(
        f"exp: [2]\ndata: {synthetic.path}\nout: {tmp_path}\nseeds: 0\ndry-run: true\nas_json: true\n"
        "set: {lr: [1e-3, 3e-3], batch_size: [64, 256], l2: 0.0}\nonly: {recipe: [none, basic], dropout: 0.5}\n"
    )
    answer = command("grid", "--config", path)
    assert answer.code == 2
    assert "option 'as_json' does not exist" in answer.err
    path.write_text(path.read_text().replace("as_json", "json"))
    answer = command("grid", "--config", path)
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["runs"] == 2 * 2 * 2
    answer = command("grid", "--config", path, "--set", "lr=1e-2", "--only", "recipe=none")
    assert json.loads(answer.out)["runs"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sedes: 0", "option 'sedes' does not exist; did you mean 'seeds'?"),
        ("set: {droput: 0.5}", "--set droput: no such setting; did you mean dropout?"),
        ("set: lr=1", "set is not a mapping; write it as set: {lr: 1e-3}"),
        ("set: {lr: {a: b}}", "set lr is neither a value nor a list of values"),
        ("seeds:", "seeds is neither a value nor a list of values"),
        ("- exp", "is not a mapping of options to values; write lines such as seeds: 0,1,2"),
        ("exp: [", "is not YAML"),
        ("seeds: 0\nexp: 2\nseeds: 1", "has the key 'seeds' twice, in line 3, too; keep one"),
        ("set: {lr: 1, lr: 2}", "has the key 'lr' twice"),
        ("epochs: many", "--epochs"),
        (f"seeds: {'[' * 3000}{']' * 3000}", "is not YAML (maximum recursion depth"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(command, synthetic, tmp_path, config, text, message):
    options = ("--exp", 2, "--data", synthetic.path, "--out", tmp_path / "runs", *TINY[2:])
    answer = command("train", "--config", config(text), *options)
    assert answer.code == 2
    assert message in " ".join(answer.err.replace("│", " ").split())
    assert not (tmp_path / "runs").exists()


def test_a_file_without_an_end_is_not_read_to_its_end(command):
    answer = command("train", "--exp", 2, "--config", "/dev/zero")
    assert (answer.code, "/dev/zero is damaged: it has more than 1,048,576 bytes" in answer.err) == (1, True)


def test_a_missing_file_or_library_is_said(command, tmp_path, config, monkeypatch):
    answer = command("train", "--config", tmp_path / "none.yaml", "--exp", 2)
    assert (answer.code, "No such file" in answer.err) == (2, True)
    monkeypatch.setitem(sys.modules, "yaml", None)
    answer = command("train", "--config", config("exp: 2"))
    assert (answer.code, "pip install pyyaml" in answer.err) == (2, True)
