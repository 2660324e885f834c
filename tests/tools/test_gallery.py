"""The gallery's runs: which there are, in which order, and that each is trained once and leaves its record."""

import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.scripts import script
from support.seals import note_of
from support.written_runs import spec_of, write_predictions, write_run

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.report.predictions import Predictions
from fastcifar.runs.directory import RunDirectory


@pytest.fixture(scope="module")
def gallery():
    return script("tools/gallery.py")


def test_the_runs_and_their_order(gallery, digits):
    specs = gallery.chosen(digits)
    assert len({spec.run_id for spec in specs}) == len(specs)
    assert {spec.precision for spec in specs} == {"float32"}
    assert {spec.epochs for spec in specs} == {100}
    parts = [(spec.experiment, spec.protocol, spec.seed > 2) for spec in specs]
    assert list(dict.fromkeys(parts)) == [
        (2, "sound", False), (2, "as-run", False), (1, "sound", False), (1, "as-run", False), (3, "sound", False),
        (3, "as-run", False), (2, "sound", True), (2, "as-run", True),
    ]  # fmt: skip
    # 11 CNNs of figures 3 to 8, three MLPs, six ViTs, four headlines with seven more seeds
    counts = {part: parts.count(part) for part in parts}
    assert list(counts.values()) == [33, 33, 6, 3, 18, 18, 28, 28]
    sizes = [spec.batch_size for spec in specs if spec.experiment == 3]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.slow
def test_each_run_is_trained_once_and_its_record_is_a_run_to_report(gallery, digits, tmp_path, monkeypatch, capfd):
    records, out = tmp_path / "records", tmp_path / "out"
    specs = [replace(spec, epochs=1) for spec in gallery.chosen(digits) if spec.model == "cnn"][:3]
    assert gallery.train_missing(digits, out, records, specs)
    said = capfd.readouterr().err
    assert f"0 of 3 runs recorded in {records}" in said
    assert f"3 of 3: {specs[2].run_id}" in said
    for spec in specs:
        record, trained = RunDirectory.of(spec, records), RunDirectory.of(spec, out)
        assert {file.name for file in record.files()} == set(gallery.KEPT)
        assert record.metrics() == trained.metrics()
        assert record.summary() == trained.summary()
        predictions = Predictions.read(record)
        assert np.array_equal(predictions.ids, digits.ids("validation"))
        assert predictions.right().mean() == pytest.approx(record.summary()["val_accuracy"])
    monkeypatch.setattr("fastcifar.grid.local.Local", lambda *_, **__: pytest.fail("it trains again"))
    assert gallery.train_missing(digits, tmp_path / "elsewhere", records, specs)


def test_what_was_finished_before_it_was_recorded_is_recorded(gallery, digits, tmp_path, monkeypatch):
    records, out = tmp_path / "records", tmp_path / "out"
    spec = spec_of()
    write_run(out, spec, [0.5], right=np.ones(10, bool))
    assert gallery.train_missing(digits, out, records, [spec])
    assert RunDirectory.of(spec, records).summary()["val_accuracy"] == 0.5


def test_a_damaged_run_gets_no_record(gallery, digits, tmp_path, capfd):
    records, out = tmp_path / "records", tmp_path / "out"
    specs = [spec_of(seed=seed) for seed in range(5)]
    for spec in specs:
        write_run(out, spec, [0.5], right=np.ones(10, bool))
    damage = [
        ("predictions.safetensors", b"x"), ("metrics.jsonl", b"\xff\n"), ("run.json", b""), ("summary.json", b"{}"),
        ("metrics.jsonl", b""),
    ]  # fmt: skip
    for spec, (name, content) in zip(specs, damage, strict=True):
        (RunDirectory.of(spec, out).path / name).write_bytes(content)
        with pytest.raises(FastcifarError):
            gallery.keep(spec, out, records, digits)
    assert not list(records.glob("exp*/*"))


def test_a_run_that_another_process_trains_and_records_is_done(gallery, digits, tmp_path, monkeypatch):
    records, out = tmp_path / "records", tmp_path / "out"
    recorded, finished = spec_of(), spec_of(seed=1)

    class Elsewhere:
        def __init__(self, *_, **__):
            pass

        def run(self):
            write_run(records, recorded, [0.5], right=np.ones(10, bool))
            write_run(out, finished, [0.5], right=np.ones(10, bool))

    monkeypatch.setattr("fastcifar.grid.local.Local", lambda *_, **__: nullcontext())
    monkeypatch.setattr("fastcifar.grid.scheduler.Scheduler", Elsewhere)
    out.mkdir()
    assert gallery.train_missing(digits, out, records, [recorded, finished])
    assert RunDirectory.of(finished, records).summary() is not None


def test_other_images_are_refused(gallery, digits, tmp_path):
    known = {"name": "other images", "sha256": "ab" * 32, "split_seed": 0}
    (tmp_path / "dataset.json").write_text(json.dumps(known))
    with pytest.raises(UsageError, match="gallery's dataset has abababababab: other images, split with seed 0"):
        gallery.require_same_images(digits, tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps(known | {"sha256": digits.sha256}))
    gallery.require_same_images(digits, tmp_path)
    for damaged in ("", "[]", "{}", "null"):
        (tmp_path / "dataset.json").write_text(damaged)
        with pytest.raises(FastcifarError, match=r"dataset.json does not name the gallery's images"):
            gallery.require_same_images(digits, tmp_path)


def test_the_images_of_the_committed_records_are_named(gallery):
    known = json.loads((gallery.RECORDS / gallery.DATASET).read_text())
    assert known["split_seed"] == 0
    assert len(bytes.fromhex(known["sha256"])) == 32
    for file in gallery.RECORDS.glob("exp*/*/run.json"):
        assert json.loads(file.read_text())["spec"]["dataset"] == known["sha256"]
        assert (file.parent / "summary.json").exists()


def test_predictions_are_small_and_those_of_before_are_read(tmp_path):
    directory = write_run(tmp_path, spec_of(), [0.5])
    right = np.random.default_rng(0).random(10_000) < 0.7
    write_predictions(directory, right, ~right, first=20_000)
    before = Predictions.read(directory)
    before.save(directory)
    assert (directory.path / "predictions.safetensors").stat().st_size < 40_000
    after = Predictions.read(directory)
    for name in ("ids", "labels", "clean", "augmented"):
        assert getattr(after, name).dtype == np.int64
        assert np.array_equal(getattr(after, name), getattr(before, name))
    assert after.epoch == before.epoch == 1
    tensors = {"members": torch.zeros(3), "labels": torch.zeros(3)}
    directory.save_tensors("predictions", tensors, note_of(directory.path, 1))
    with pytest.raises(FastcifarError, match="damaged"):
        Predictions.read(directory)
