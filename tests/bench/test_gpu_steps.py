"""The measuring steps of the GPU check, on the CPU: all of their code, in Triton's interpreter, on next to nothing."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from support import ROOT

pytest.importorskip("triton", reason="Triton is not installed")
from bench.gpu import bits, contests, device_profile, loops, packs, steps
from bench.gpu.notes import Notes
from bench.lib import rows
from fastcifar.training.steps import TIMED, Captured

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels are compiled, for CUDA tensors")


@pytest.fixture
def noted(tmp_path):
    """Runs a step, or a part of one; its notes and its rows by what they are of."""

    def run(step, name: str = "step") -> tuple[Notes, dict[str, list[dict]]]:
        notes = Notes(name, CPU, tmp_path / "rows.jsonl", tmp_path / "profile.txt", tiny=True)
        step(notes)
        found: dict[str, list[dict]] = {}
        for row in rows.read(tmp_path / "rows.jsonl") if (tmp_path / "rows.jsonl").exists() else ():
            assert (row["step"], row["device"], row["tiny"]) == (name, "cpu", True)
            assert {"cpu", "versions", "commit", "gpus"} <= row["environment"].keys()
            assert row["says"]
            found.setdefault(row["what"], []).append(row)
        return notes, found

    return run


@pytest.mark.whole
def test_what_all_else_rests_on(noted):
    notes, found = noted(steps.machine)
    assert notes.wrong == []
    assert found["bandwidth"][0]["copy_bandwidth"] > 1e6
    assert [(row["recipe"], row["dtype"]) for row in found["bits"]] == [
        ("erasing", "bfloat16"), ("imagenet384", "bfloat16"), ("airbench96", "bfloat16"), ("erasing", "float32"),
        ("erasing", "float16"),
    ]  # fmt: skip
    for row in (*found["bits"], *found["dropout"], *found["captured step"]):
        assert (row["differing"], row["first_differing"], row["verified"]) == (0, None, True)
    for row in found["bits"]:
        assert row["labels_equal"]
        assert row["ids_equal"]
    (step,) = found["captured step"]
    assert (step["values"], step["tensors_apart"], step["dtype"]) == (step["steps"], [], "bfloat16")
    assert step["record_seconds"] > 0
    from fastcifar.training.steps import TIMED as now

    assert now == TIMED > 1  # as it was


@pytest.mark.whole
def test_a_kernel_that_is_wrong_is_found_and_not_timed(noted, monkeypatch):
    from fastcifar.kernels import gpu

    rendered = gpu.render

    def spoilt(*arguments, launch=None):
        rendered(*arguments, launch=launch)
        if launch is not None and launch.warps == 16:
            arguments[5][-1, 2, 3, 4] += 1

    monkeypatch.setattr(gpu, "render", spoilt)
    monkeypatch.setattr(bits, "TIMED", bits.TIMED[:1])
    notes, found = noted(steps.kernels)
    chosen, other = found["kernel"]
    assert (chosen["chosen"], chosen["verified"], chosen["repeats"]) == (True, True, 1)
    assert chosen["launch"] == gpu.CHOSEN._asdict()
    assert chosen["images_per_s"] > 0
    assert chosen["ceiling_share"] == pytest.approx(
        chosen["images_per_s"] * (3072 + 2 * 3072) / chosen["copy_bandwidth"]
    )  # fmt: skip
    assert (other["chosen"], other["verified"], other["differing"]) == (False, False, 1)
    assert other["first_differing"] == [1, 2, 3, 4]
    assert "images_per_s" not in other
    assert [text for text in notes.wrong if "1 of 6,144 values DIFFER, the first at [1, 2, 3, 4]; not timed" in text]


@pytest.mark.whole
@pytest.mark.parametrize("times", [0, 1])
def test_a_kernel_that_writes_nothing_does_not_pass_for_the_one_before_it(noted, monkeypatch, times):
    """Not even where only its replay does not."""
    from fastcifar.kernels import gpu

    rendered, seen = gpu.render, []

    def render(*arguments, launch=None):
        seen.append(launch)
        if seen.count(launch) <= times:
            rendered(*arguments, launch=launch)

    monkeypatch.setattr(gpu, "render", render)
    monkeypatch.setattr(bits, "TIMED", bits.TIMED[:1])
    notes, found = noted(steps.kernels)
    assert len(notes.wrong) == len(found["kernel"]) == 2
    assert not any(row["ids_equal"] or row["labels_equal"] for row in found["kernel"])


@pytest.mark.whole
def test_without_dice_to_throw_launches_that_differ_in_nothing_else_are_one(noted, monkeypatch):
    from fastcifar.kernels import gpu

    monkeypatch.setattr(bits, "TIMED", [("imagenet384", torch.bfloat16)])
    monkeypatch.setattr(gpu, "CANDIDATES", (gpu.CHOSEN._replace(dice=gpu.INSIDE), gpu.CHOSEN))
    notes, found = noted(steps.kernels)
    assert notes.wrong == []
    (row,) = found["kernel"]
    assert row["chosen"]
    assert row["launch"] == gpu.CHOSEN._asdict()
    assert row["bytes_per_image"] == 3072 + 2 * 3 * 384 * 384


def test_values_are_compared_bit_by_bit():
    ones = torch.ones(2, 3)
    assert bits.difference(ones, ones.clone()) == {
        "values": 6, "differing": 0, "first_differing": None, "verified": True
    }  # fmt: skip
    other = ones.clone()
    other[1, 0], other[1, 2] = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0)), 9
    found = bits.difference(ones, other)
    assert (found["differing"], found["first_differing"], found["verified"]) == (2, [1, 0], False)
    assert not bits.difference(torch.zeros(1), -torch.zeros(1))["verified"]
    assert bits.difference(ones * torch.nan, ones * torch.nan)["verified"]
    with pytest.raises(ValueError, match="cannot be compared"):
        bits.difference(ones, ones.double())


@pytest.mark.whole
def test_the_cnn_as_a_graph_and_step_by_step(noted, tmp_path):
    before = torch.backends.cudnn.deterministic
    notes, found = noted(steps.cnn)
    assert notes.wrong == []
    modes = [(row["mode"], row["deterministic"]) for row in found["epoch"]]
    assert modes == [("graph", True), ("none", True), ("graph", False)]
    assert torch.backends.cudnn.deterministic == before
    for row in found["epoch"]:
        assert row["images_per_s"] == pytest.approx(20 / row["seconds"])
        assert (row["steps"], row["repeats"], row["batch_size"]) == (3, 1, 8)
        assert row["step_us_p50"] > 0
    assert found["same losses"][0]["values"] == 3
    assert [row["title"] for row in found["profile"]] == ["cnn graph", "cnn none", "cnn graph, cuDNN free to choose"]
    for row in found["profile"]:
        assert 0 < len(row["top"]) <= 25
        shares = [one["us_a_step"] for one in row["top"]]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) <= row["device_us_a_step"] * 1.001 <= row["wall_us_a_step"] * 1.01
    text = (tmp_path / "profile.txt").read_text()
    assert text.count("\n== step: cnn ") == 3
    assert "convolution" in text


def test_on_a_device_kernels_count_and_names_for_stretches_of_time_do_not():
    def event(key, where, us, named=False):
        times = {"self_device_time_total": us, "self_cpu_time_total": us}
        return SimpleNamespace(key=key, device_type=where, count=3, is_user_annotation=named, **times)

    on, off = device_profile.DeviceType.CUDA, device_profile.DeviceType.CPU
    events = [event("small", on, 1.0), event("aten::mm", off, 50.0), event("Adam.step", on, 90.0, True)]
    events += [event("x" * 999, on, 7.0), event("nothing", on, 0.0)]
    caught = SimpleNamespace(key_averages=lambda: events)
    assert device_profile.kernels(caught, cuda=True) == (
        [{"name": "x" * 160, "calls": 3, "us": 7.0}, {"name": "small", "calls": 3, "us": 1.0}], 8.0
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="saw nothing"):
        device_profile.kernels(SimpleNamespace(key_averages=lambda: events[1:3]), cuda=True)


@pytest.mark.whole
def test_losses_that_differ_are_wrong(noted, monkeypatch):
    whole = loops.Loop.epoch

    def epoch(loop, at_most=None):
        trained = whole(loop, at_most)
        return trained._replace(losses=trained.losses + isinstance(loop.steps, Captured))

    monkeypatch.setattr(loops.Loop, "epoch", epoch)
    notes, found = noted(loops.captured)
    assert not found["captured step"][0]["verified"]
    assert len(notes.wrong) == 1


@pytest.mark.whole
def test_each_way_to_train_packs(noted, monkeypatch):
    monkeypatch.setattr(packs, "NETWORKS", {"mlp_s": 1})
    notes, found = noted(steps.packs)
    assert notes.wrong == []
    ways = {row["way"] for row in found["pack"]} - {"side-by-side"}
    assert ways == {"serial", "grouped"}
    assert all(row["images_per_s"] > 0 and row["runs"] == 2 for row in found["pack"])
    assert [row["title"] for row in found["profile"]] == ["mlp_s serial, 2 runs", "mlp_s grouped, 2 runs"]


@pytest.mark.whole
def test_a_way_that_fails_is_wrong_and_leaves_the_others(noted, monkeypatch):
    monkeypatch.setattr(packs, "NETWORKS", {"cnn": 2})
    monkeypatch.setattr(packs, "possible", lambda *_: ["grouped", "no such way", "im2col"])
    trial_of = packs.trial_of

    def opened(way, *more):
        if way == "no such way":
            raise torch.OutOfMemoryError("no memory")
        return trial_of(way, *more)

    monkeypatch.setattr(packs, "trial_of", opened)
    notes, found = noted(steps.packs)
    assert [row.get("way", row.get("failed")) for row in found["pack"]] == [
        "grouped", "OutOfMemoryError: no memory", "im2col"
    ]  # fmt: skip
    assert len(notes.wrong) == 1


@pytest.mark.slow
def test_ours_against_others(noted):
    notes, found = noted(steps.pipelines)
    assert notes.wrong == []
    assert [row["pipeline"] for row in found["pipeline"]] == [
        "resident", "torchvision", "resident", "bench.rivals.airbench:airbench94"
    ]  # fmt: skip
    assert all(row["images_per_s"] > 0 and row["whole"] and row["turns"] for row in found["pipeline"])
    assert [row["kernel"] for row in found["contest"]] == [
        "gpu",
        "torchvision batch",
        "kornia",
        "gpu",
        "torch compiled",
    ]
    assert found["contest"][0]["verified"]
    assert found["contest"][0]["max_abs_dev"] == 0


def test_a_contest_that_is_cut_short_leaves_the_rounds_there_were(noted, monkeypatch):
    row = {"pipeline": "resident", "recipe": "erasing", "dtype": "bfloat16", "images_per_s": 5.0, "verified": True}
    row |= {"reason": None, "environment": {}, "device": "cpu"}

    @contextmanager
    def nothing(*_):
        yield None

    def hold(heat, rules, watch):
        watch([row])
        watch([row | {"images_per_s": 7.0}, row | {"pipeline": "torchvision", "images_per_s": None, "verified": False}])
        sys.exit(143)  # as when the check asks it to end

    class OneHeat:
        def __init__(self, *_, **__):
            pass

        def heats(self, _):
            return [[]]

    monkeypatch.setattr(contests, "opened", nothing)
    monkeypatch.setattr(contests, "Matrix", OneHeat)
    monkeypatch.setattr(contests, "hold", hold)

    def race(notes: Notes) -> None:
        with pytest.raises(SystemExit):
            contests.pipeline_race(notes, "erasing")

    notes, found = noted(race)
    assert [(row["pipeline"], row["images_per_s"], row["whole"]) for row in found["pipeline"]] == [
        ("resident", 7.0, False), ("torchvision", None, False)
    ]  # fmt: skip
    assert notes.wrong == []  # that another one has no speed is nothing wrong with ours


@pytest.mark.whole
def test_a_large_network_by_the_command(tmp_path):
    """And what the command makes of it: rows in a file, status 0."""
    out = tmp_path / "rows.jsonl"
    done = command("pretrained", "--rows", str(out))
    assert done.returncode == 0, done.stderr
    start, *found = rows.read(out)
    assert start["seconds"].keys() == {"torch", "triton", "numba", "torchvision", "device"}
    assert [(row["mode"], row["micro_batch"], row["said"]) for row in found] == [("none", 4, []), ("graph", 4, [])]
    for row in found:
        assert 0 <= row["stall"] <= 1
        assert row["images_per_s"] > 0
        assert row["says"] in done.stdout


def command(step: str, *more: str) -> "subprocess.CompletedProcess[str]":
    arguments = [sys.executable, str(ROOT / "bench" / "gpu" / "steps.py"), step, "--device", "cpu", "--tiny", *more]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


@pytest.mark.whole
def test_the_micro_batch_that_fits_is_said(noted, monkeypatch):
    """Memory for two images at once: what of the batch of four went through at a time is in the row."""
    learner = loops.Learner
    gradients = learner._gradients

    def short(self, batch, clock, weight):
        if self.micro_batch > 2:
            raise torch.OutOfMemoryError("no memory")
        return gradients(self, batch, clock, weight)

    monkeypatch.setattr(learner, "_gradients", short)
    monkeypatch.setattr(loops, "MODES", ("none",))
    notes, found = noted(steps.pretrained)
    assert notes.wrong == []
    (row,) = found["pretrained"]
    assert row["micro_batch"] == 2
    assert "batch 4 2 at a time" in row["says"]
    assert "do not fit" in row["said"][0]


@pytest.mark.whole
def test_what_would_measure_nothing_is_refused():
    arguments = [sys.executable, str(ROOT / "bench" / "gpu" / "steps.py"), "cnn"]
    for more, reason in ((["--device", "cpu"], "measures nothing; add --tiny"), ([], "torch sees no CUDA device")):
        done = subprocess.run([*arguments, *more], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert reason in done.stderr


def test_a_failure_is_noted_and_the_rest_goes_on(noted):
    def step(notes: Notes) -> None:
        with notes.trying("pack", "cnn grouped"):
            raise RuntimeError("illegal memory access " * 100)
        notes.row("pack", "the next one")

    notes, found = noted(step)
    failed, after = found["pack"]
    assert failed["failed"].startswith("RuntimeError: illegal memory access")
    assert len(failed["failed"]) == 500
    assert failed["about"] == "cnn grouped"
    assert (after["says"], len(notes.wrong)) == ("the next one", 1)


def test_a_row_is_on_the_disk_when_its_process_is_killed(tmp_path):
    out = tmp_path / "rows.jsonl"
    out.write_bytes(b'{"step": "before", "says')  # of one that was killed while it wrote
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from bench.lib import rows
for n in range(3):
    rows.append({{"n": n}}, Path({str(out)!r}))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    torn, *whole = out.read_text().splitlines()
    assert torn.endswith('"says')
    assert [json.loads(line)["n"] for line in whole] == [0, 1, 2]
