"""Damaged files of JSON: the reader returns what it returned before, or says which file is damaged.

``python tools/campaign.py`` does the same with many more mutations.
"""

import json
import os
import random

import pytest
import torch
from support.throughput import made
from support.written_runs import rising, spec_of, write_run

from fastcifar.data.dataset import Dataset
from fastcifar.data.manifest import MANIFEST
from fastcifar.grid.leases import Leases
from fastcifar.packs.choice import Calibration
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.failure import failure_of, give_up
from fastcifar.runs.overview import overview
from fastcifar.runs.record import RunRecord
from fastcifar.runs.rows import row_of
from fastcifar.show.provenance import commit_text, hardware, software
from fastcifar.system import schema
from fastcifar.system.seals import sealed
from fastcifar.throughput import page, rows
from tools.attacks.mutations import attempt, changed, mutated

TRIES = int(os.environ.get("FUZZ_TRIES", "200"))  # of each file
ENDS = "metrics of an unfinished run"
NOTE = "note of tensors"
SEALED = ("run.json", "summary.json", "metrics.jsonl", ENDS, NOTE, "manifest.json")


@pytest.fixture
def reached(monkeypatch):
    """The number of values that came as far as the schema."""
    count = [0]
    convert = schema.msgspec.convert

    def counting(*arguments, **options):
        count[0] += 1
        return convert(*arguments, **options)

    monkeypatch.setattr(schema.msgspec, "convert", counting)
    return count


def record_of(directory):
    record = RunRecord.read(RunDirectory(directory.path))
    return record.begun, record.spec, record.summary, record.results, record.lines, record.status


def finished(tmp_path):
    return write_run(tmp_path, spec_of(), rising(0.7, 12))


def unfinished(tmp_path):
    return write_run(tmp_path, spec_of(), rising(0.7, 3), ended=False)


def begun(tmp_path):
    directory = unfinished(tmp_path)
    directory.save_tensors("checkpoint", {"a": torch.ones(3)}, {"epoch": 3, "scaler": {}, "line": "0" * 32})
    return directory


def note_of(directory):
    tensors, note = RunDirectory(directory.path).load_tensors("checkpoint", torch.device("cpu"))
    return tensors["a"].tolist(), note


def other_note(content, rng):
    """Return a file of tensors with a damaged note in its header: its size in 8 bytes, then JSON."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    note = mutated(header["__metadata__"]["note"].encode(), rng, False)
    header["__metadata__"]["note"] = note.decode(errors="replace")
    changed = json.dumps(header).encode()
    return len(changed).to_bytes(8, "little") + changed + content[8 + size :]


def given_up(tmp_path):
    directory = unfinished(tmp_path)
    give_up(directory, "its worker was lost")
    return directory


def dataset(tmp_path):
    whole = Dataset.from_arrays(*images(), 3)
    from fastcifar import convert

    return convert(whole, tmp_path / "dataset")


def images():
    import numpy as np

    return np.arange(20 * 32 * 32 * 3, dtype=np.uint32).reshape(20, 32, 32, 3).astype(np.uint8), np.arange(20) % 3


def bench(tmp_path):
    rows.write([made("resident", [2.0, 3.0]), made("ffcv", [1.0])], tmp_path / "rows.jsonl")
    return tmp_path


CASES = {
    "run.json": (finished, lambda of: of.path / "run.json", record_of),
    "summary.json": (finished, lambda of: of.path / "summary.json", record_of),
    "metrics.jsonl": (finished, lambda of: of.path / "metrics.jsonl", record_of),
    ENDS: (unfinished, lambda of: of.path / "metrics.jsonl", record_of),
    "failure.json": (given_up, lambda of: of.path / "failure.json", failure_of),
    NOTE: (begun, lambda of: of.path / "checkpoint.safetensors", note_of),
    "manifest.json": (dataset, lambda of: of.path / MANIFEST, lambda of: Dataset.open(of.path).manifest),
    "rows": (bench, lambda of: of / "rows.jsonl", lambda of: rows.contests(of / "rows.jsonl")),
    "rows of a page": (bench, lambda of: of / "rows.jsonl", lambda of: rows.read(of / "rows.jsonl", rows.Speed)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_is_named_or_changes_nothing(name, tmp_path, reached):
    make, place, read = CASES[name]
    of = make(tmp_path)
    file, rng = place(of), random.Random(name)
    whole, before, most = file.read_bytes(), read(of), 0
    reached[0] = 0
    refused = 0
    for _ in range(TRIES):
        damaged = other_note(whole, rng) if name == NOTE else mutated(whole, rng, file.suffix == ".jsonl")
        file.write_bytes(damaged)
        start = reached[0]
        found, error = attempt(lambda: read(of))
        if error is None:
            assert found == before or name not in SEALED or (name == ENDS and shorter(found, before))
        else:
            assert file.name in error or "run.json" in error
            refused += 1
        most += reached[0] > start
    assert most >= TRIES / 2, f"{most} of {TRIES} mutations reached the schema"
    assert refused >= TRIES / 4
    file.write_bytes(whole)
    assert read(of) == before


def shorter(found, before):
    """Whether a run lacks its last lines only, as after an interruption; at resume its checkpoint tells."""
    return found[4] == before[4][: len(found[4])] and found[:3] == before[:3]


@pytest.mark.parametrize("name", ["run.json", "summary.json", "manifest.json"])
def test_a_value_with_a_valid_seal_is_shown_or_refused(name, tmp_path):
    """The seal does not protect from values that no version writes: whatever the schema accepts can be shown."""
    make, place, read = CASES[name]
    of = make(tmp_path)
    file, rng, root = place(of), random.Random(name), "" if name != "summary.json" else of.root
    whole, accepted = json.loads(file.read_bytes()), 0
    if name == "run.json":  # the other files follow it in the chain
        for other in ("metrics.jsonl", "summary.json"):
            (of.path / other).unlink()
    for _ in range(TRIES):
        try:
            value = json.loads(changed(json.dumps(whole).encode(), rng))
        except (ValueError, RecursionError):
            continue
        file.write_text(json.dumps(sealed(value, root) if isinstance(value, dict) else value))
        _, error = attempt(lambda: (read(of), name == "manifest.json" or show(RunRecord.read(RunDirectory(of.path)))))
        assert error is None or str(of.path) in error
        accepted += error is None
    assert accepted


def show(record):
    """Do what ``fastcifar runs`` and the report do with a run."""
    overview([row_of(record)], 80)
    environment = record.begun.get("environment", {})
    assert hardware(environment, record.begun.get("device", "cpu"))
    assert software(environment)
    assert commit_text(environment.get("commit"), environment.get("dirty"))


def test_a_row_that_is_read_is_shown(tmp_path):
    """A row that the schema accepts makes a page; the figures are slow, so few rows are tried."""
    rng, file = random.Random("page"), bench(tmp_path) / "rows.jsonl"
    whole = file.read_bytes()
    for number in range(8):
        file.write_bytes(mutated(whole, rng, True))
        _, error = attempt(lambda: page.build_page([file], tmp_path / f"out{number}"))  # noqa: B023 - called at once
        assert error is None or "rows.jsonl" in error


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"[" * 100_000, b'{"pid": 1e400}', b'{"token": 3}', b"\xff"])
def test_files_that_can_be_made_again_are_made_again(tmp_path, content):
    (tmp_path / "calibration.json").write_bytes(content)
    assert Calibration(tmp_path / "calibration.json")._read() == {}
    with Leases(tmp_path) as leases:
        (tmp_path / ".leases" / "run.json").write_bytes(content)
        assert leases.take(["run"]) == ["run"]
        assert json.loads((tmp_path / ".leases" / "run.json").read_text())["pid"]
