"""The command: a report from real runs, from an unfinished folder, from benchmark rows; and misuse."""

import json
import re

import numpy as np
import pytest
import torch
from support import ROOT
from support.runs import CPU, spec_of
from support.seals import note_of
from support.written_runs import rising, write_run
from support.written_runs import spec_of as written_spec

from fastcifar.cli.app import main
from fastcifar.data.dataset import Dataset
from fastcifar.predict.ensemble import ensemble
from fastcifar.report.build import build_report
from fastcifar.report.collection import collect, with_predictions
from fastcifar.report.predictions import FILES, Predictions, predict
from fastcifar.report.preview import sheet
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.trained import TrainedRun
from fastcifar.system.measure import environment
from fastcifar.throughput import rows
from fastcifar.training.loop import train


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """A folder of two real runs: one validated on clean images, one on augmented ones."""
    out = tmp_path_factory.mktemp("runs")
    for protocol in ("sound", "as-run"):
        spec = spec_of(digits, protocol=protocol, recipe="erasing", batch_size=64, lr=3e-3, epochs=2)
        train(spec, digits, out, CPU)
    return out


def called(*arguments, monkeypatch):
    monkeypatch.setattr("sys.argv", ["fastcifar", "report", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


def test_predictions_are_those_that_the_runs_were_validated_by(trained, digits):
    found = {each.protocol: each for each in collect(trained).configurations}
    assert predict([run.path for each in found.values() for run in each.runs.values()], digits, CPU) == []
    for protocol, each in found.items():
        (run,) = each.runs.values()
        predictions = Predictions.read(RunDirectory(run.path))
        split_seed = run.row["seed"] if protocol == "as-run" else None
        assert np.array_equal(predictions.ids, digits.ids("validation", split_seed))
        assert np.array_equal(predictions.labels, digits.labels("train")[predictions.ids])
        assert predictions.epoch == run.row["kept_epoch"]
        # the recorded accuracy is that of the images which the protocol validates on
        accuracy = predictions.right(augmented=protocol == "as-run").mean()
        assert accuracy == pytest.approx(run.accuracy, abs=1e-9)
        assert predictions.confusion(10).sum() == len(predictions.ids)
        assert predictions.confusion(10).trace() == predictions.right().sum()
    assert predictions.right(augmented=True).sum() != predictions.right().sum()


def test_without_augmentation_both_kinds_of_images_are_the_same(digits, tmp_path):
    train(spec_of(digits, recipe="none", batch_size=64, epochs=1), digits, tmp_path, CPU)
    (run,) = collect(tmp_path).runs
    assert predict([run.path], digits, CPU) == []
    predictions = Predictions.read(RunDirectory(run.path))
    assert np.array_equal(predictions.clean, predictions.augmented)


def test_test_images_are_predicted_as_they_are_and_beside_the_validation_images(trained, digits):
    paths = [run.path for run in collect(trained).runs]
    assert predict(paths, digits, CPU, list(FILES)) == []
    before = [(path / "predictions.safetensors").read_bytes() for path in paths]
    labels = digits.labels("test")
    for each in with_predictions(collect(trained), digits).configurations:
        (predictions,) = each.tests.values()
        (run,) = each.runs.values()
        assert np.array_equal(predictions.ids, np.arange(len(labels)))
        assert np.array_equal(predictions.labels, labels)
        assert np.array_equal(predictions.clean, predictions.augmented)
        expected = ensemble([TrainedRun.open(run.path)], digits, "test").argmax(1)
        assert np.array_equal(predictions.clean, expected)
    assert [(path / "predictions.safetensors").read_bytes() for path in paths] == before


def test_predictions_are_asked_once(trained, digits, monkeypatch):
    paths = [run.path for run in collect(trained).runs]
    predict(paths, digits, CPU, list(FILES))
    monkeypatch.setattr("fastcifar.report.predictions.TrainedRun", None)
    assert predict(paths, digits, CPU) == []
    assert predict(paths, digits, CPU, list(FILES)) == []


def test_a_run_that_cannot_be_asked_is_said(trained, synthetic, tmp_path):
    without = write_run(tmp_path, written_spec(), rising(0.5)).path
    (other,) = (run.path for run in collect(trained).runs if run.row["protocol"] == "sound")
    (other / "predictions.safetensors").unlink(missing_ok=True)
    said = predict([without, other], synthetic, CPU)
    assert "no model.safetensors" in said[0]
    assert "another dataset" in said[1]


def test_a_damaged_file_of_predictions_is_said(tmp_path):
    directory = write_run(tmp_path, written_spec(), rising(0.5))
    directory.save_tensors("predictions", {"ids": torch.zeros(1)}, note_of(directory.path, 5))
    with pytest.raises(Exception, match="is damaged; delete it"):
        Predictions.read(directory)


def test_predictions_of_many_classes_come_back(tmp_path):
    directory = write_run(tmp_path, written_spec(), rising(0.5))
    labels = np.arange(300)
    note = note_of(directory.path, directory.summary()["kept_epoch"])
    Predictions(labels * 2, labels, labels[::-1], labels, note["epoch"], note["line"]).save(directory)
    saved = Predictions.read(directory)
    assert np.array_equal(saved.labels, labels)
    assert np.array_equal(saved.clean, labels[::-1])
    assert not saved.within(256)


def test_nothing_is_predicted_on_images_that_were_not_verified(trained, digits):
    (path, *_) = (run.path for run in collect(trained).runs)
    (path / "predictions.safetensors").unlink(missing_ok=True)
    (said,) = predict([path], Dataset.open(digits.path, verify=False), CPU)
    assert "was opened without being verified" in said
    assert not (path / "predictions.safetensors").exists()


def test_a_report_of_real_runs(trained, digits, tmp_path, monkeypatch, capsys):
    out = tmp_path / "report"
    assert (
        called("--runs", trained, "--data", digits.path, "--out", out, "--device", "cpu", monkeypatch=monkeypatch) == 0
    )
    printed, err = capsys.readouterr()
    assert re.search(r"\d+ claims not run", printed)
    assert "index.html: 2 runs" in printed
    assert "note: Protocol sound:" in err
    html = (out / "index.html").read_text()
    assert html.count("data:image/png;base64,") == 3  # images under each recipe of 32 x 32
    assert "without predictions" not in html
    assert '"confusion": {' in html or '"confusion":{' in html
    assert (out / "report.md").read_text().startswith("# ")


def test_json(trained, tmp_path, monkeypatch, capsys):
    assert called("--runs", trained, "--out", tmp_path / "r", "--json", monkeypatch=monkeypatch) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["runs"] == 2
    assert "index.html" in answer["files"]
    assert sum(answer["verdicts"].values()) > 20
    for file in answer["files"]:
        assert (tmp_path / "r" / file).is_file()


@pytest.mark.parametrize("made", [False, True])
def test_nothing_to_report(tmp_path, monkeypatch, capsys, made):
    runs = tmp_path / "runs"
    if made:
        write_run(runs, written_spec(), rising(0.5), ended=False)
    assert called("--runs", runs, "--out", tmp_path / "out", monkeypatch=monkeypatch) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert ("has ended, so there is nothing to report" if made else "there is no folder") in err
    assert not (tmp_path / "out").exists()


def test_a_sheet_of_samples_has_a_row_an_image(digits):
    from fastcifar.experiments import PROTOCOLS

    image = sheet(digits, PROTOCOLS["sound"].recipe("basic"), 2, 3)
    assert image.size == (4 * (96 + 2) + 2, 2 * (96 + 2) + 2)


# benchmark rows


def contest(**fields):
    row = {
        "bench": "throughput", "model": None, "recipe": "basic", "device": "cpu", "dtype": "float32", "batch_size": 512,
        "pipeline": "resident", "images_per_s": 1000.0, "images_per_s_min": 400.0, "images_per_s_max": 1100.0,
        "ceiling_images_per_s": 4000.0, "verified": True, "reason": None, "max_abs_dev": 0.0, "pixels_apart": 0.0,
        "environment": environment() | {"cpu": "a <processor>"},
    }  # fmt: skip
    return row | fields


def test_rows_become_a_page(tmp_path, monkeypatch, capsys):
    path, out = tmp_path / "some.jsonl", tmp_path / "out"
    rows.write(
        [
            contest(),
            contest(pipeline="dali", images_per_s=500.0, max_abs_dev=0.5, pixels_apart=0.25),
            contest(pipeline="ffcv", images_per_s=None, images_per_s_min=None, images_per_s_max=None, verified=False,
                    reason="FFCV is not installed"),
            contest(device="cuda", environment=environment() | {"gpus": ["a GPU"]}),
        ],
        path,
    )  # fmt: skip
    assert called("--bench", path, "--out", out, monkeypatch=monkeypatch) == 0
    html = (out / "index.html").read_text()
    assert "some: a &lt;processor&gt;, " in html
    assert "some: a GPU" in html
    for text in ("25.0 %", "12.5 %", "400-1,100", "25 % differ, by up to 0.5", "FFCV is not installed", "equal"):
        assert text in html, text
    assert len(list(out.glob("some-*.png"))) == 2
    assert "index.html" in capsys.readouterr().out


@pytest.mark.whole
def test_the_committed_rows_become_a_page(tmp_path, monkeypatch):
    from fastcifar.system.machine import CHECKOUT

    assert called("--bench", CHECKOUT / "bench" / "results", "--out", tmp_path / "out", monkeypatch=monkeypatch) == 0
    html = (tmp_path / "out" / "index.html").read_text()
    for name in ("throughput-cpu", "feeding-cpu", "kernels-cpu", "training-cpu", "packs-cpu"):
        assert f"{name}: " in html
    assert "gpu-check-h100: NVIDIA H100 80GB HBM3" in html
    assert (tmp_path / "out" / "gpu-check-h100-NVIDIA-H100-80GB-HBM3.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bench", "nothing.jsonl"], "neither a file nor a folder nothing.jsonl"),
        (["--bench", "empty.jsonl"], "no row of empty.jsonl has a speed"),
        (["--bench", "empty.jsonl", "--data", "d"], "needs no --data"),
        (["--bench", "empty.jsonl", "--test"], "needs no --test"),
    ],
)
def test_misuse_of_rows(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    assert called(*arguments, monkeypatch=monkeypatch) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["empty.jsonl"]


def test_a_dataset_that_is_none(trained, tmp_path, monkeypatch):
    assert called("--runs", trained, "--data", tmp_path, "--out", tmp_path / "out", monkeypatch=monkeypatch) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.whole
def test_the_gallery_is_what_its_runs_say(tmp_path):
    """Apart from the last line, which names the commit that made it."""
    made = build_report(ROOT / "docs" / "gallery" / "runs", tmp_path)
    written = (ROOT / "docs" / "gallery" / "report.md").read_text(encoding="utf-8")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert written.splitlines()[:-1] == text.splitlines()[:-1], "run: make gallery-report"
    assert all((ROOT / "docs" / "gallery" / name).exists() for name in made.files if name != "index.html")
