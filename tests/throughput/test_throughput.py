"""The throughput benchmark: who lies gets no speed, who crashes or hangs gets a row that says so, nobody stays."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import ROOT

import fastcifar
from bench.tables import throughput
from fastcifar.augment import RECIPES
from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.pipeline import Batch, Pipeline, open_pipeline
from fastcifar.throughput import heat, process, resources, rows, verify
from fastcifar.throughput.compare import changes, comparison, widest
from fastcifar.throughput.contestant import Contestant
from fastcifar.throughput.entrant import MEASURED, WARM_UP, Rules
from fastcifar.throughput.matrix import Matrix
from fastcifar.throughput.plot import plot
from fastcifar.throughput.table import results

FAKE = '''
import os, time
import torch
from fastcifar.errors import FastcifarError
from fastcifar.pipeline import Pipeline, open_pipeline

class Fake(Pipeline):
    """resident's batches, spoilt as the form says."""
    forms = ("pixels", "labels", "near", "stock", "raises", "crashes", "hangs", "limits")

    def __init__(self, request, form=""):
        super().__init__(request, form)
        if form == "hangs":
            time.sleep(600)
        if form == "limits":
            counts = os.environ["OMP_NUM_THREADS"], torch.get_num_threads(), len(os.sched_getaffinity(0))
            raise FastcifarError(f"threads {counts}")
        self.differs = {"near": "one pixel in a thousand", "stock": "dice of its own"}.get(form, "")
        self.honest = open_pipeline("resident", request.dataset, augment=request.augment,
                                    batch_size=request.batch_size, seed=request.seed, dtype=request.dtype)

    def epoch(self, k):
        print("a library that chatters")
        for n, batch in enumerate(self.honest.epoch(k)):
            images, labels, ids = (part.clone(memory_format=torch.preserve_format) for part in batch)
            if self.form == "pixels":
                images[3, 0, 0, 0] += 1e-4
            elif self.form == "near":
                images[3, 0, 0, 0] += 0.5
            elif self.form == "stock":
                images += 0.1
            elif self.form == "labels" and n == 1:
                labels[0] = (labels[0] + 1) % 10
            elif self.form == "raises" and n == 1:
                raise ValueError("the third image is missing")
            elif self.form == "crashes" and n == 1:
                os.abort()
            yield type(batch)(images, labels, ids)

    def close(self):
        self.honest.close()

PIPELINE = Fake
'''
KEYS = {
    *("bench", "pipeline", "model", "recipe", "device", "dtype", "batch_size", "threads", "images"),
    *("images_per_s", "images_per_s_min", "images_per_s_max", "repeats", "turns", "stall", "waited"),
    *("gap_p50_seconds", "gap_p95_seconds", "gap_p99_seconds"),
    *("build_seconds", "first_batch_seconds", "epoch_start_seconds"),
    *("cpu_seconds_per_million", "cores_busy", "cores_idle", "peak_host_bytes", "peak_gpu_bytes"),
    *("verified", "reason", "images_checked", "max_abs_dev", "pixels_apart", "differs"),
    *("write_bandwidth", "ceiling_images_per_s", "ceiling_share", "environment"),
}


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipelines fake:FORM, found by name here and in the contestants' processes."""
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "fake.py").write_text(FAKE)
    monkeypatch.setattr(fastcifar, "__path__", [*fastcifar.__path__, str(tmp_path)])
    start = f"import fastcifar; fastcifar.__path__.append({str(tmp_path)!r}); import fastcifar.throughput.child as c; "
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", start + "c.main()"))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ids of the processes that contestants were given."""
    pids: list[int] = []
    popen = subprocess.Popen

    def noting(*arguments: Any, **keywords: Any) -> "subprocess.Popen[bytes]":
        started = popen(*arguments, **keywords)
        if keywords.get("start_new_session"):  # not git, which the environment is asked of
            pids.append(started.pid)
        return started

    monkeypatch.setattr(process.subprocess, "Popen", noting)
    return pids


def contestant(dataset: Dataset, pipeline: str, **other: Any) -> Contestant:
    fields = {"recipe": "erasing", "batch_size": 16, "device": "cpu", "dtype": "float32", "threads": 1, **other}
    return Contestant(pipeline=pipeline, data=str(dataset.path), **fields)


def held(dataset: Dataset, *pipelines: str, repeats: int = 1, **other: Any) -> dict[str, dict[str, Any]]:
    """The rows of a short heat by pipeline."""
    limits = {"seconds": 0.05, "timeout": 60.0, "write_bandwidth": {"cpu": 1e10}, "unverified": False}
    rules = Rules(repeats=repeats, **{key: other.pop(key, value) for key, value in limits.items()})
    return {row["pipeline"]: row for row in heat.hold([contestant(dataset, p, **other) for p in pipelines], rules)}


def gone(session: int) -> bool:
    """Whether every process of the session has ended within 5 s; those killed by force take a moment."""
    until = time.monotonic() + 5
    while running(session) and time.monotonic() < until:
        time.sleep(0.05)
    return not running(session)


def running(session: int) -> list[str]:
    """Its processes, without the dead ones that wait for whoever adopted them to take notice."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, _, _, of, *_ = stat.read_text().rpartition(")")[2].split()
            found += [stat.parent.name] if of == str(session) and state != "Z" else []
    return found


@pytest.mark.usefixtures("fakes")
@pytest.mark.slow
def test_only_what_is_verified_gets_a_speed(synthetic, started):
    wrong = {
        "fake:pixels": r"pixel values are not the reference's, by up to 0.0001, though",
        "fake:labels": "of the labels are wrong",
        "fake:stock": "are over a grey level off: dice of its own",
        "fake:raises": "ValueError: the third image is missing",
        "fake:crashes": "its process ended by SIGABRT",
        "fake:limits": "threads ('1', 1, 1)",
    }
    found = held(synthetic, "resident", *wrong, "fake:near", repeats=5)
    assert list(found) == ["resident", *wrong, "fake:near"]
    for row in found.values():
        assert row.keys() == KEYS
        assert {"cpu", "commit", "dirty", "versions", "threads"} <= row["environment"].keys()
        json.dumps(row, allow_nan=False)
    for name, reason in wrong.items():
        assert reason in found[name]["reason"]
        assert not found[name]["verified"]
        assert all(found[name][key] is None for key in MEASURED)
    honest, near = found["resident"], found["fake:near"]
    assert (honest["verified"], honest["max_abs_dev"], honest["pixels_apart"]) == (True, 0, 0)
    assert honest["repeats"] == len(honest["turns"]) == 5
    assert honest["images_per_s_min"] <= honest["images_per_s"] <= honest["images_per_s_max"]
    assert honest["images_checked"] == (WARM_UP + 5) * 16  # of each turn, whether it counts or not
    assert honest["ceiling_share"] == pytest.approx(honest["images_per_s"] / (1e10 / (3 * 32 * 32 * 4)))
    assert 0 < honest["cores_busy"] < 1.5
    assert honest["cores_idle"] < 0.2
    assert near["verified"]
    assert near["max_abs_dev"] == pytest.approx(0.5, abs=1e-5)
    assert near["pixels_apart"] == pytest.approx(1 / (16 * 3 * 32 * 32))
    assert near["differs"] == "one pixel in a thousand"
    assert len(started) == len(found)
    assert all(gone(pid) for pid in started)
    assert "crashes" in _text(results(list(found.values())))


@pytest.mark.usefixtures("fakes")
def test_unverified_speeds_are_given_when_asked_and_marked(synthetic):
    row = held(synthetic, "fake:stock", unverified=True)["fake:stock"]
    assert row["images_per_s"] > 0
    assert not row["verified"]
    assert "dice of its own" in row["reason"]
    assert "NOT VERIFIED" in _text(results([row]))


@pytest.mark.usefixtures("fakes")
def test_a_hanging_contestant_is_ended(synthetic, started):
    row = held(synthetic, "fake:hangs", timeout=3.0)["fake:hangs"]
    assert row["reason"].startswith("did not open in 3 s, and was ended")
    assert gone(started[0])


def test_a_process_that_hangs_with_a_worker_leaves_neither(monkeypatch, started, synthetic):
    hang = "import subprocess, sys, time; input(); subprocess.Popen(['sleep', '600']); print('{}', flush=True); "
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", hang + "time.sleep(600)"))
    asked = process.Process(contestant(synthetic, "resident"), timeout=5.0)
    with pytest.raises(process.ContestantFailed, match="did not take its turn in 5 s"):
        asked.ask({"seconds": 1, "pick": 0})
    assert gone(started[0])


def test_a_process_that_dies_at_once_says_how(monkeypatch, synthetic):
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", "import sys; sys.exit('no room left')"))
    with pytest.raises(process.ContestantFailed, match="ended with exit status 1; last it wrote: no room left"):
        process.Process(contestant(synthetic, "resident"), timeout=20.0)


def test_who_does_not_fit_into_memory_is_started_anew_for_each_turn(monkeypatch, synthetic, started):
    monkeypatch.setattr(heat, "IDLE_SHARE", -1)
    row = held(synthetic, "resident", repeats=2)["resident"]
    assert row["repeats"] == 2
    assert len(started) == 3  # for the warm-up, and for each turn


def test_in_training(synthetic):
    found = held(synthetic, "replay", "resident", model="resnet18", recipe="basic", repeats=1)
    assert found["replay"]["verified"]
    assert found["replay"]["stall"] is None
    assert found["resident"]["bench"] == "feeding"
    replayed, fed = (found[name]["images_per_s"] for name in ("replay", "resident"))
    assert found["resident"]["stall"] == pytest.approx(1 - fed / replayed)
    assert found["resident"]["ceiling_share"] is None


@pytest.mark.slow
def test_quick_from_a_checkout(tmp_path, synthetic):
    out, tiny = tmp_path / "rows.jsonl", ("--data", str(synthetic.path), "--batch-sizes", "16", "--seconds", "0.05")
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "throughput.py"), "--quick", "--pipelines", "resident", *tiny,
         "--out", str(out)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = rows.read(out)
    assert row["verified"]
    assert row["repeats"] == 5
    assert row["ceiling_share"] > 0
    assert "resident" in done.stdout


def made(pipeline: str, speeds: list[float], **other: Any) -> dict[str, Any]:
    """A row as the benchmark writes it."""
    around = {"cpu": "c", "cores": 2, "python": "3", "commit": "abc", "dirty": False, "versions": dict.fromkeys(
        ("torch", "torchvision", "numba", "ffcv", "dali"), "1")}  # fmt: skip
    return {
        **dict.fromkeys(KEYS), "bench": "throughput", "pipeline": pipeline, "recipe": "none", "device": "cpu",
        "dtype": "float32", "batch_size": 512, "threads": 2, **rows.rates(speeds), "turns": speeds, "verified": True,
        "max_abs_dev": 0.0, "pixels_apart": 0.0, "ceiling_images_per_s": 1e6, "ceiling_share": 0.1,
        "cpu_seconds_per_million": 1.0, "peak_host_bytes": 1e9, "gap_p99_seconds": 0.01, "build_seconds": 1.5,
        "first_batch_seconds": 0.5, "environment": around, **other,
    }  # fmt: skip


OUT = {"images_per_s": None, "turns": None, "verified": False, "reason": "did not open in 300 s"}


def test_compare_tells_a_change_from_noise():
    old = [made("resident", [100.0, 104, 96]), made("ffcv", [50.0, 52, 48]), made("dali", [10.0, 11, 9])]
    # the machine is twice as fast now, ffcv is four times: the ratio to resident doubled
    new = [made("resident", [200.0, 208, 192]), made("ffcv", [200.0, 208, 192]), made("dali", [1.0], **OUT)]
    found = {change.pipeline: change for change in changes(old, new)}
    assert list(found) == ["resident", "ffcv"]
    assert found["resident"].speed == pytest.approx((2, 192 / 104, 208 / 96))
    assert found["resident"].ratio is None
    assert found["ffcv"].ratio == pytest.approx((2, 2, 2))
    assert found["ffcv"].exceeds_noise(found["ffcv"].ratio)
    assert widest(list(found.values())) == pytest.approx(1)
    same = changes(old, old)
    assert not any(change.exceeds_noise(change.speed) for change in same)
    assert widest(same) == pytest.approx(0)
    assert "ffcv" in _text(comparison(same))
    with pytest.raises(UsageError, match="no contestant in common"):
        changes(old, [made("tfdata", [1.0])])


def test_plot_draws_what_has_a_speed(tmp_path):
    from PIL import Image

    drawn = [made("resident", [100.0, 90]), made("ffcv:stock", [50.0], verified=False), made("dali", [1.0], **OUT)]
    plot(drawn, tmp_path / "one.png")
    plot([*drawn, made("resident", [5.0], recipe="basic")], tmp_path / "two.png")
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width == 1600
    assert (tmp_path / "two.png").stat().st_size > 5000
    with pytest.raises(UsageError, match="nothing to draw"):
        plot([made("dali", [1.0], **OUT)], tmp_path / "none.png")


def test_readme_tables_say_who_was_not_verified():
    found = [made("resident", [100.0, 90]), made("ffcv:stock", [50.0], verified=False, reason="dice of its own"),
             made("dali", [1.0], **OUT)]  # fmt: skip
    text = throughput.throughput(found)
    assert "| resident | 95 (100 %) |" in text
    assert "| ffcv:stock | 50 (52.6 %) NOT VERIFIED |" in text
    assert "| dali | none |" in text
    assert "- dali: did not open in 300 s (none, float32)" in text
    assert "| memory could take | 1,000,000 |" in text
    assert "| resident | 90-100 | 10.0 | 2.0 | 1 | 1,000 | equal |" in text
    assert "NOT VERIFIED: dice of its own" in text
    fed = [made("replay", [200.0], model="cnn"), made("resident", [100.0], model="cnn", stall=0.5)]
    assert "| cnn | resident | 100 (50 %) | 50.0 % | equal |" in throughput.feeding(fed)


def test_rows_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="there is no file"):
        rows.read(tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_text("images\n")
    with pytest.raises(FastcifarError, match="does not hold rows"):
        rows.read(tmp_path / "bad.jsonl")


def batch_of(pipeline: Pipeline) -> Batch:
    return next(iter(pipeline.epoch(0)))


def test_pixels_are_compared_with_those_of_their_own_epoch(synthetic):
    with open_pipeline("resident", synthetic, augment=RECIPES["erasing"], batch_size=16) as pipeline:
        batch = batch_of(pipeline)
        assert verify.check_pixels(batch, pipeline.request, 0).why_not("") is None
        assert verify.check_pixels(batch, pipeline.request, 1).why_not("")
        wrong: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "not channels_last": lambda x: x.contiguous(),
            "torch.float16": lambda x: x.half(),
            "not finite": lambda x: (x / 0 * 0).contiguous(memory_format=torch.channels_last),
        }
        for reason, spoil in wrong.items():
            found = verify.check_pixels(batch._replace(images=spoil(batch.images)), pipeline.request, 0)
            assert reason in (found.why_not("") or "")
    assert verify.Check().why_not("") == "no batch was compared"


def test_an_epoch_must_be_whole(synthetic):
    with open_pipeline("resident", synthetic, batch_size=16) as pipeline:
        batches, request = list(pipeline.epoch(0)), pipeline.request
    assert verify.check_samples(batches, request, whole=True).fault is None
    assert verify.check_samples(batches[:3], request, whole=False).fault is None
    twice = batches[0]._replace(ids=batches[0].ids.index_fill(0, torch.tensor([0]), int(batches[0].ids[1])))
    assert "a sample twice" in (verify.check_samples([twice], request, whole=False).fault or "")
    halves = [Batch(*(part[:4] for part in batch)) for batch in batches]
    assert "batches of [4] images" in (verify.check_samples(halves, request, whole=True).fault or "")
    assert "left out 16 of 80" in (verify.check_samples(batches[:-1], request, whole=True).fault or "")
    assert "no batch" in (verify.check_samples([], request, whole=True).fault or "")
    foreign = batches[0]._replace(ids=torch.from_numpy(synthetic.ids("validation")[:16]))
    assert "not of its split" in (verify.check_samples([foreign], request, whole=False).fault or "")


def test_working_on_while_others_are_timed_is_an_error(monkeypatch):
    clock = iter(np.arange(0.0, 1000.0))
    monkeypatch.setattr(resources, "cpu_seconds", lambda: next(clock))
    with pytest.raises(FastcifarError, match="goes on working"):
        resources.come_to_rest(limit=0.2)


def test_the_cpu_time_of_workers_counts():
    burn = "import time\nwhile time.process_time() < 0.4: pass\ntime.sleep(30)"
    script = (
        "import subprocess, sys, time; from fastcifar.throughput import resources; before = resources.cpu_seconds(); "
        f"worker = subprocess.Popen([sys.executable, '-c', {burn!r}]); time.sleep(2); "
        "print(resources.cpu_seconds() - before, resources.worker_bytes()); worker.kill(); worker.wait()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, start_new_session=True, cwd=ROOT
    )
    seconds, held_bytes = map(float, done.stdout.split())
    assert 0.2 < seconds < 1.5
    assert held_bytes > 1 << 20


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"pipelines": ["tfdata"]}, "pipeline 'tfdata'"),
        ({"recipes": ["sharpen"]}, "recipe 'sharpen'"),
        ({"recipes": []}, "nothing to time"),
        ({"models": ["vgg"]}, "network 'vgg'"),
        ({"models": ["cnn"], "recipes": ["imagenet256"]}, "imagenet256"),
        ({"dtypes": ["float64"]}, "dtype 'float64'"),
        ({"threads": 10_000}, "--threads 10000"),
        ({"devices": ["tpu"]}, "tpu"),
    ],
)
def test_what_cannot_be_timed(wrong, named):
    asked: dict[str, Any] = {"pipelines": [], "recipes": ["none"], "batch_sizes": [16], "devices": ["cpu"]}
    with pytest.raises(UsageError, match=named):
        Matrix(**asked | wrong)


def test_the_matrix_is_the_product(synthetic):
    matrix = Matrix(["resident"], ["none", "basic"], [16, 32], ["cpu"], models=["cnn"], threads=1)
    heats = matrix.heats(synthetic)
    assert [(heat[0].recipe, heat[0].batch_size) for heat in heats] == [
        ("none", 16), ("none", 32), ("basic", 16), ("basic", 32)]  # fmt: skip
    assert all([one.pipeline for one in heat] == ["replay", "resident"] for heat in heats)


def _text(table: Any) -> str:
    from rich.console import Console

    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()
