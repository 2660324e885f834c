"""Every command's output is readable on a terminal of 60, 80, 100 and 160 columns: no word and no number is cut."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import ROOT
from support.kept import kept, saying
from support.seals import reseal
from support.specs import PRETRAINED, SPEC
from support.widths import WIDTHS
from support.written_runs import rising, spec_of, write_run

from fastcifar.cli.app import app
from fastcifar.diagnose import batchnorm, record
from fastcifar.diagnose.findings import ArmFinding
from fastcifar.diagnose.suspects import DRIFT
from fastcifar.diagnose.verdict import GUILTY, judgement
from fastcifar.grid.scheduler import Results
from fastcifar.grid.speeds import Kind, Speed
from fastcifar.packs.choice import Measured
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.failure import give_up
from fastcifar.runs.rows import COLUMNS
from fastcifar.show import console

ELSEWHERE = {
    "bench": "tests/throughput/test_table.py",
    "demo": "tests/cli/test_demo.py",  # its tables are those of bench and of train
}
"""The commands whose tables are tested in another file at WIDTHS."""
LONG = "timm:vit_large_patch16_siglip_512.v2_webli"
RECIPE = "basic,flip=alternating,crop=4,erase=0.25,cutout=12"
MILLION = {"parameters": 1_234_567, "images_per_s": 7_654_321.0, "seconds": 3_456_789.1, "stall": 0.5}


def commands():
    """The names of all commands, as the app has them."""
    names = [command.name for command in app.registered_commands]
    return names + [
        f"{group.name} {(each.name or each.callback.__name__)}"
        for group in app.registered_groups
        for each in group.typer_instance.registered_commands
    ]


@pytest.fixture
def written(tmp_path):
    """Runs with the longest names and numbers: of a pretrained network, and with all settings of their own."""
    out = tmp_path / "runs"
    many = {
        "optimizer": "adamw",
        "schedule": "onecycle",
        "smoothing": 0.1,
        "protocol": "as-run",
        "lr": 1.5e-5,
        "l2": 1e-6,
    }
    for seed in (0, 1):
        write_run(out, replace(SPEC, recipe=RECIPE, seed=seed + 2**40, **many), rising(0.7))
    write_run(out, spec_of(seed=0), rising(0.65))
    for record_ in out.glob("exp*/*/summary.json"):
        reseal(record_, lambda summary: summary.update(MILLION))
    spec = replace(PRETRAINED, model=LONG)
    directory = RunDirectory.of(spec, out)
    with directory.locked():
        directory.start(spec, {})
        give_up(directory, "no memory left " * 9)
    return out


def summaries(n=3):
    return [{"val_accuracy": 0.7 + k / 99, "kept_epoch": 97 + k, "epochs": 98 + k, **MILLION} for k in range(n)]


def trained(specs, *_, **__):
    return SimpleNamespace(
        by_configuration=lambda: {specs[0].label: summaries(), PRETRAINED.label: summaries(9)},
        draw_curves=lambda path: None,
    )


@pytest.fixture
def quick(monkeypatch):
    """Nothing is trained or measured; the results are as large as they can be."""
    monkeypatch.setattr("fastcifar.training.session.run", trained)
    monkeypatch.setattr("fastcifar.grid.plan.train_grid", lambda *_: Results())
    monkeypatch.setattr("fastcifar.grid.plan.Plan.summaries", lambda plan, out: (
        [(spec, summary) for spec in plan.specs[:4] for summary in summaries(2)], []
    ))  # fmt: skip
    monkeypatch.setattr("fastcifar.packs.choice.measure", lambda *_: MEASURED)
    monkeypatch.setattr("fastcifar.grid.speeds.Speeds.of", lambda _, specs: {
        kind: Speed(1_234_567.0, 7_654_321.0) for kind in map(Kind.of, specs)
    })  # fmt: skip


MEASURED = Measured("im2col", {"serial": 1.5, "side-by-side": 1_234_567.0, "im2col": 7_654_321.0}, 1 << 42)
FINDING = ArmFinding("training mode, momentum 0.01", *(1.234e-5 * 10**n for n in range(8)), evaluations=7)


def cases(synthetic, written, tmp_path):
    """By command, its arguments; a command may have several."""
    settings = ("--set", f"recipe={RECIPE}", "--set", "optimizer=adamw", "--set", "schedule=onecycle", "--amp", "off")
    out, data = ("--out", tmp_path / "out"), ("--data", synthetic.path)
    return {
        "convert": [("synthetic:20", tmp_path / "a-dataset-of-a-long-name" / "of-noise", "--overwrite")],
        "verify": [(synthetic.path,)],
        "train": [("--exp", 2, *data, *out, *settings, "--device", "cpu")],
        "grid": [
            ("--exp", "1,2,3", *data, *out, "--amp", "off", "--protocol", "all", "--dry-run"),
            ("--exp", "2", *data, *out, *settings),
            ("--for-report", "--budget", "1h", *data, *out, "--exp", "1,2", "--dry-run", "--amp", "off"),
        ],
        "predict": [(kept(synthetic, tmp_path / "kept", saying([0.91, *[0.01] * 9])), *data, "--device", "cpu")],
        "runs": [
            ("--out", written),
            ("--out", written, "--diff", *sorted(path.name for path in (written / "exp2").iterdir())[:2]),
        ],
        "report": [("--runs", written, *out)],
        "list": [("all", "--out", written)],
        "preview": [(*data, "--out", tmp_path / "preview.png", "--recipe", RECIPE)],
        "doctor": [()],
        "diagnose bn": [(*data, *out, "--weights", "none", "--device", "cpu", "--batch-size", 8, "--recipe", "none")],
    }


def test_every_command_is_tested_at_all_widths(synthetic, written, tmp_path):
    assert {*cases(synthetic, written, tmp_path), *ELSEWHERE} == set(commands())
    assert all((ROOT / file).is_file() for file in ELSEWHERE.values())


PIECES = re.compile(r"[^\s\-/,.:=_]+[\-/,.:=_]*|[\-/,.:=_]+")
NUMBER = re.compile(r"[\d.,%+±]*\d[\d.,%]*")


def joined(word):
    """The parts of a word that a line may hold: pieces between hyphens and the like, one after another."""
    found = PIECES.findall(word)
    return {"".join(found[a:b]) for a in range(len(found)) for b in range(a + 1, len(found) + 1)}


def shown(command, monkeypatch, arguments, width):
    """What a terminal of a width shows; None: a pipe, whose lines stay whole."""
    monkeypatch.setattr(console, "_terminal_width", lambda stream: width)
    monkeypatch.delenv("COLUMNS", raising=False)
    if width is not None:
        monkeypatch.setenv("COLUMNS", str(width))
    answer = command(*arguments)
    assert answer.code == (arguments[0] == "doctor"), answer.err
    return answer.out


@pytest.mark.whole
@pytest.mark.parametrize("name", [name for name in commands() if name not in ELSEWHERE])
def test_output_is_readable_at_all_widths(command, synthetic, written, quick, tmp_path, monkeypatch, name):
    monkeypatch.setattr("fastcifar.system.doctor.diagnose", findings)
    judged = judgement(DRIFT, GUILTY, "the validation loss jumps by 0.31 in training mode " * 5, "that is much", {})
    diagnosis = batchnorm.Diagnosis(findings=[FINDING, replace(FINDING, arm="eval mode")], judgements=[judged])
    monkeypatch.setattr(batchnorm, "diagnose", lambda *_: diagnosis)
    monkeypatch.setattr(record, "write_diagnosis", lambda *_: None)
    for arguments in cases(synthetic, written, tmp_path)[name]:
        whole = shown(command, monkeypatch, [*name.split(), *arguments], None)
        words = whole.split()
        allowed = {part for word in words for part in joined(word)} | set(EXTRA.split()) | set(COLUMNS)
        for width in WIDTHS:
            text = shown(command, monkeypatch, [*name.split(), *arguments], width)
            assert "…" not in text
            for line in text.splitlines():
                assert len(line) <= width or " " not in line.strip(), f"{len(line)} characters: {line}"
            for word in text.split():
                if NUMBER.fullmatch(word) and not (word in allowed and re.fullmatch("[0-9]{8}", word)):  # of a run-id
                    assert word in words or word in EXTRA.split(), f"the number {word} is cut in\n{text}"
                else:
                    fits = {word, word.rstrip(",:")} & allowed or set(word) == {"─"}
                    assert fits, f"{word!r} is cut in\n{text}"


EXTRA = """
    no room for : - --wide --json --csv shows them or has run_id: only its last part is shown, which enough --diff
    table.md in the folder most frequent confusions images true class predicted 0 1 2 3 4 5 6 7 8 9 The
"""
"""The words that only a narrow terminal shows: on what was left out, and in a table in place of another one."""


def findings():
    from fastcifar.system.doctor import Finding

    path = str(Path("/home/somebody/miniconda3/envs/an-environment/lib/python3.11/site-packages"))
    return [
        Finding("Python", True, f"3.11.9, {path}/bin/python", required=True),
        Finding("torch", False, "ImportError: libcudart.so.13: cannot open shared object file", "make install", True),
        Finding("numba's cache", False, f"{path}: Permission denied", "set NUMBA_CACHE_DIR to a folder of yours"),
    ]


def test_results_of_a_run_that_diverged_and_of_many_seeds():
    """The table of train with a text in place of a number."""
    from support.widths import readable, render

    from fastcifar.show.results import results_table

    lost = [{**summary, "val_accuracy": None, "kept_epoch": None} for summary in summaries()]
    for width in WIDTHS:
        text = render(results_table({SPEC.label: lost, LONG: summaries(20)}), width)
        readable(text, ["none (3 diverged)", "7,654,321", "configuration"])
