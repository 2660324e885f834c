"""The step of the GPU check that trains the report's experiments: its order, what it measures, and what it says."""

import time

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")
from bench.gpu import grid, steps
from bench.gpu.costs import Cost, Found, cost_of, extrapolated, in_turns, in_words, rest
from bench.gpu.notes import Notes
from bench.lib import rows
from bench.tables import gpu
from fastcifar.data.convert import convert
from fastcifar.grid.messages import Ended
from fastcifar.grid.packing import packs_of
from fastcifar.grid.wanted import Wanted, runs_of

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels are compiled, for CUDA tensors")


def found_by(tmp_path) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for row in rows.read(tmp_path / "rows.jsonl"):
        found.setdefault(row["what"], []).append(row)
    return found


def notes_in(tmp_path, seconds: float = 1e6) -> Notes:
    return Notes("grid", CPU, tmp_path / "rows.jsonl", tiny=True, until=time.monotonic() + seconds)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The 240 runs of the experiments, and their shapes in the step's order."""
    dataset = convert("synthetic:25", tmp_path_factory.mktemp("grid") / "dataset")
    specs = runs_of(Wanted(grid.EXPERIMENTS, overrides={"epochs": [grid.EPOCHS]}), dataset, CPU).specs
    return specs, in_turns(packs_of(specs, lambda shape: len(specs)), grid.EXPERIMENTS)


def lines(*ends: float, seconds: float = 1.0) -> list[dict]:
    return [{"epoch": n, "time": end, "seconds": seconds} for n, end in enumerate(ends, 1)]


def shapes(whole) -> list[Found]:
    return [Found(pack, tuple(packs_of(pack.specs, lambda shape: 48))) for pack in whole[1]]


def test_a_shape_of_each_experiment_comes_before_their_second_ones(whole):
    specs, ordered = whole
    assert len(specs) == 240
    assert [(pack.shape.experiment, pack.shape.model, pack.shape.batch_size, len(pack.specs)) for pack in ordered] == [
        (2, "cnn", 128, 108), (3, "vit", 128, 9), (1, "mlp_s", 128, 3), (2, "cnn", 64, 108), (3, "vit", 64, 9),
        (1, "mlp_l", 128, 3),
    ]  # fmt: skip


def test_then_packs_of_another_size_come_before_those_of_a_size_that_was_measured(whole):
    found = shapes(whole)
    for shape in found:
        shape.costs[shape.packs[0]] = Cost(len(shape.packs[0].specs), "grouped", 2, 1, 1)
    assert [(shape.together.shape.batch_size, len(pack.specs)) for shape, pack in rest(found)] == [
        (128, 12), (64, 12), (128, 48), (64, 48)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("runs", "way", "expected"),
    [
        # one program: both runs end an epoch together, 3 s after the one before; 4 s of 10 are no epoch's
        ([lines(7, 10), lines(7, 10)], "grouped", Cost(2, "grouped", 2, 3, 4)),
        ([lines(4, 7, 10), lines(4, 7, 10)], "im2col", Cost(2, "im2col", 3, 3, 1)),
        # one after another: an epoch of both runs lasts twice as long as one of a run
        ([lines(3, 5), lines(8, 10)], "serial", Cost(2, "serial", 2, 4, 2)),
        # time ran out: before the second run, in its second epoch, and in the first one of all
        ([lines(3, 5), []], "serial", Cost(2, "serial", 1, 4, 6)),
        ([lines(3, 5), lines(8)], "serial", Cost(2, "serial", 1.5, 4, 4)),
        ([lines(7), lines(7)], "grouped", Cost(2, "grouped", 1, 2, 8)),
    ],
)
def test_an_epoch_is_timed_by_the_records_and_the_rest_is_the_start(runs, way, expected):
    assert cost_of(runs, way, 10) == expected


def test_the_protocol_is_extrapolated_from_what_was_trained(whole):
    found = shapes(whole)
    for shape in found:
        first, shape.measuring = shape.packs[0], 5
        shape.costs[first] = Cost(len(first.specs), "grouped", 2, len(first.specs) / 10, 2)
    result = extrapolated(found)
    assert (result["runs"], result["packs"], result["packs_estimated"], result["runs_missing"]) == (240, 10, 4, 0)
    assert result["epoch_seconds"] == pytest.approx(24)
    assert result["start_seconds"] == pytest.approx(6 * 5 + 10 * 2)
    assert result["seconds"] == pytest.approx([50 + 30 * 24, 50 + 100 * 24])
    assert result["seconds_by_experiment"]["1"] == pytest.approx([2 * (5 + 2 + 30 * 0.3), 2 * (5 + 2 + 100 * 0.3)])
    assert in_words(result).startswith("extrapolated: 240 runs, 12.8 min if all stop early, 40.8 if none does; 0.8 of")
    assert in_words(result).endswith("; 4 of 10 packs by others of their shape")

    found[3].costs.clear()  # the CNN at batch 64, which was measured only
    result = extrapolated(found)
    assert (result["runs"], result["runs_missing"], result["missing"]) == (132, 108, ["cnn, batch 64, 108 runs"])
    assert result["seconds"][0] == pytest.approx(5 * 5 + 7 * 2 + 30 * 13.2)
    assert in_words(result).endswith("; WITHOUT cnn, batch 64, 108 runs: not measured")

    nothing = extrapolated([Found(pack) for pack in whole[1]])
    assert (nothing["seconds"], nothing["runs"], nothing["runs_missing"]) == ([0, 0], 0, 240)


@pytest.mark.whole
def test_the_packs_of_an_experiment(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "EXPERIMENTS", (2,))
    monkeypatch.setattr(grid, "by_command", lambda *_: None)
    notes = notes_in(tmp_path)
    steps.grid(notes)
    assert notes.wrong == []
    found = found_by(tmp_path)
    assert [(row["runs"], row["epochs"]) for row in found["grid pack"]] == [(2, grid.EPOCHS)] * 2
    for row in found["grid pack"]:
        assert min(row["epoch_seconds"], row["training_and_validation_seconds"], row["measuring_seconds"]) > 0
        assert row["seconds"] <= row["opening_seconds"] + grid.EPOCHS * row["epoch_seconds"] + 0.01
    (experiment,) = found["grid experiment"]
    assert (experiment["runs_trained"], experiment["packs_trained"], experiment["shapes"]) == (4, 2, 1)
    (extrapolation,) = found["grid whole"]
    assert extrapolation["extrapolated"] is True
    assert extrapolation["seconds"][0] < extrapolation["seconds"][1]
    assert (extrapolation["runs"], extrapolation["packs_estimated"], extrapolation["missing"]) == (4, 0, [])
    text = gpu.grid([row for of_kind in found.values() for row in of_kind])
    assert "| 2 | 4 of 4 | 2 | " in text
    assert "Extrapolated to their protocol, and not measured: 4 runs take " in text


@pytest.mark.slow
def test_a_small_grid_by_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "experiments", lambda *_: None)
    notes = notes_in(tmp_path)
    steps.grid(notes)
    assert notes.wrong == []
    (row,) = found_by(tmp_path)["grid"]
    assert (row["runs"], row["epochs"]) == (1, 1)
    assert row["runs_a_minute"] == pytest.approx(60 / row["seconds"])
    assert row["wall_seconds"] > row["seconds"]
    assert gpu.grid([row]).startswith("`fastcifar grid`, 1 runs of 1 epochs each")


@pytest.mark.parametrize("ends", ["before the first shape", "at its first epoch", "as the check ends it", "a failure"])
def test_where_time_runs_out_the_rows_say_what_is_missing(tmp_path, monkeypatch, ends):
    """And a run that fails is wrong, and leaves the other packs."""
    seconds = {"before the first shape": 15, "at its first epoch": 25}.get(ends, 1e6)
    notes, trained = notes_in(tmp_path, seconds), []

    def opened(notes, asked, shape):
        shape.packs = tuple(packs_of(shape.together.specs, lambda of: 2))

    def train(worker, job, tell):
        trained.append(job)
        if ends == "as the check ends it":
            raise SystemExit(143)
        if ends == "a failure":
            tell(Ended(0, job.specs[0].run_id, None, "no kernel image"))
        else:
            notes._until = time.monotonic()

    monkeypatch.setattr(grid, "_open", opened)
    monkeypatch.setattr(grid.Worker, "train", train)
    monkeypatch.setattr(grid, "by_command", lambda *_: None)
    try:
        grid.grid(notes)
    except SystemExit:
        assert ends == "as the check ends it"
    found = found_by(tmp_path)
    assert len(trained) == {"before the first shape": 0, "a failure": 4}.get(ends, 1)
    assert len(notes.wrong) == (4 if ends == "a failure" else 0)
    assert all("1 of " in row["failed"] and "no kernel image" in row["failed"] for row in found.get("grid pack", []))
    assert [row["says"] for row in found["grid experiment"]] == [
        f"experiment {number}: none of {runs} runs was trained" for number, runs in ((1, 2), (2, 4), (3, 1))
    ]  # fmt: skip
    (extrapolation,) = found["grid whole"]
    assert (extrapolation["runs"], extrapolation["runs_missing"], len(extrapolation["missing"])) == (0, 7, 4)
    assert ("not run" in found) == (seconds < 1e6)


@pytest.mark.whole
def test_a_pack_that_is_stopped_ends_with_its_epoch_and_is_counted_so(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "EXPERIMENTS", (2,))
    monkeypatch.setattr(grid, "by_command", lambda *_: None)
    train = grid.Worker.train

    def stopping(worker, job, tell):
        worker.stop.set()
        train(worker, job, tell)

    monkeypatch.setattr(grid.Worker, "train", stopping)
    notes = notes_in(tmp_path)
    grid.grid(notes)
    assert notes.wrong == []
    assert all(0 < row["epochs"] <= 1 for row in found_by(tmp_path)["grid pack"])


def test_a_command_that_fails_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "experiments", lambda *_: None)
    monkeypatch.setattr(grid, "tied", lambda arguments: ["false"])
    notes = notes_in(tmp_path)
    grid.grid(notes)
    assert "CalledProcessError" in found_by(tmp_path)["grid"][0]["failed"]
    assert len(notes.wrong) == 1
