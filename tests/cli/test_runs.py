"""``fastcifar runs``: what lies in run directories, and only that, whatever state they are in."""

import csv
import io
import json
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
from support.command import Answer
from support.lines import line_of
from support.seals import change_json, reseal, unseal
from support.specs import PRETRAINED, SPEC
from support.text import rows_of
from support.widths import render

from fastcifar.errors import UsageError
from fastcifar.runs import difference, overview, rows
from fastcifar.runs.directory import RunDirectory, find_runs
from fastcifar.runs.failure import give_up
from fastcifar.runs.outcome import summary_of
from fastcifar.runs.record import read_runs
from fastcifar.runs.rows import COLUMNS
from fastcifar.runs.spec import run_id_of

CONTEXT = {
    "dataset": {"name": "digits", "sha256": SPEC.dataset, "classes": ["a", "b"]},
    "environment": {"cpu": "one", "versions": {"torch": "2.9.0", "dali": None}, "gpus": [], "commit": "abc"},
    "device": "cpu",
    "mode": "none",
}


def epochs(*accuracies):
    return [
        line_of(n, 1.1 - (a or 0), a, val_loss=None if a is None else 1 - a, seconds=0.1, images_per_s=1000.0 * n,
                stall=0.0)
        for n, a in enumerate(accuracies, 1)
    ]  # fmt: skip


def made(out, *accuracies, finished=True, context=CONTEXT, **changed):
    """A run as training leaves it."""
    spec = replace(SPEC, **changed)
    directory, lines = RunDirectory.of(spec, out), epochs(*accuracies)
    with directory.locked():
        directory.start(spec, context)
        for line in lines:
            directory.append_metrics(line)
        if finished:
            directory.finish(summary_of(spec, lines, 1000))
    return directory


@pytest.fixture
def four(tmp_path):
    """By name: finished, as-run; diverged; unfinished; finished, sound."""
    return [
        made(tmp_path, 0.5, 0.75, protocol="as-run", seed=0),
        made(tmp_path, 0.25, None, seed=1, lr=0.01),
        made(tmp_path, 0.5, 0.7, 0.6, seed=2, finished=False, batch_size=64),
        made(tmp_path, 0.8, 0.7, seed=3),
    ]


def rows_below(out):
    return [rows.row_of(record) for record in read_runs(out).records]


def seeds(found):
    return [row["seed"] for row in found]


# rows


def test_a_row_is_what_the_run_is_and_has(four, tmp_path):
    found = read_runs(tmp_path)
    assert (found.damaged, found.foreign) == ({}, {})
    by_seed = {row["seed"]: row for row in map(rows.row_of, found.records)}
    assert by_seed[3] == {
        "run_id": four[3].path.name, "experiment": 2, "protocol": "sound", "model": "cnn", "batch_size": 128,
        "lr": 0.001, "l2": 0.0, "dropout": 0.5, "recipe": "basic", "seed": 3, "precision": "bfloat16", "epochs": 2,
        "kept_epoch": 1, "val_accuracy": 0.8, "val_loss": 1 - 0.8, "images_per_s": 1500.0, "seconds": 0.2,
        "status": "finished", "max_epochs": 100, "pipeline": "resident", "tune": "full", "weights": "none",
        "optimizer": "adam", "schedule": "constant", "smoothing": 0.0, "code": "none", "dataset": SPEC.dataset,
        "error": None, "dataset_name": "digits", "checked": "yes",
    }  # fmt: skip
    assert all(list(row) == list(COLUMNS) for row in map(rows.row_of, found.records))
    results = ("status", "epochs", "kept_epoch", "val_accuracy")
    assert {seed: tuple(row[key] for key in results) for seed, row in by_seed.items()} == {
        0: ("finished", 2, 2, 0.75),
        1: ("diverged", 2, 1, 0.25),
        2: ("unfinished", 3, 2, 0.7),  # the best so far
        3: ("finished", 2, 1, 0.8),
    }


def test_a_run_that_never_had_an_accuracy(tmp_path):
    made(tmp_path, None)
    made(tmp_path, finished=False, seed=1)
    found = rows_below(tmp_path)
    assert [(row["status"], row["epochs"], row["kept_epoch"], row["val_accuracy"], row["val_loss"]) for row in found] \
        == [("diverged", 1, None, None, None), ("unfinished", 0, None, None, None)]  # fmt: skip
    assert found[1]["images_per_s"] is None


def test_states_of_unfinished_runs(tmp_path):
    directory = made(tmp_path, 0.5, finished=False)

    def state():
        (row,) = rows_below(tmp_path)
        return row["status"], row["error"]

    assert state() == ("unfinished", None)
    give_up(directory, "out of memory")
    assert state() == ("failed", "out of memory")
    with directory.locked():
        assert state() == ("in work", None)
    directory.finish(summary_of(SPEC, epochs(0.5), 1000))
    assert state() == ("finished", None)


def test_asking_whether_a_run_is_busy_makes_no_files_and_hinders_nobody(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    assert not directory.busy()
    directory.path.mkdir()
    assert not directory.busy()
    assert list(directory.path.iterdir()) == []
    with directory.locked():
        assert directory.busy()
    assert not directory.busy()
    asking = (
        "import fcntl, sys, time\nlock = open(sys.argv[1])\nfcntl.flock(lock, fcntl.LOCK_SH)\n"
        "print(flush=True)\ntime.sleep(0.03)"
    )
    with subprocess.Popen([sys.executable, "-c", asking, directory.path / "lock"], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert not directory.busy()  # as it only asks, too
        with directory.locked():  # which waits for a moment
            pass


def test_runs_from_before_a_field_was_there(tmp_path):
    directory = made(tmp_path, 0.5, lr=1.0)
    unseal(directory.path)

    def change(begun):
        for name in ("tune", "weights"):
            del begun["spec"][name]
        begun["spec"]["lr"] = 1

    change_json(directory.path / "run.json", change)
    (row,) = rows_below(tmp_path)
    assert (row["tune"], row["weights"], row["lr"], type(row["lr"])) == ("full", "none", 1.0, float)
    assert row["checked"] == "no"


BROKEN = [
    ("run.json", b"{", "is damaged"),
    ("run.json", b"[]", "is damaged"),
    ("run.json", b'{"spec": {"lr": 1}}', "is damaged (Object missing required field `experiment` - at `$.spec`)"),
    ("run.json", b'{"spec": 3}', "is damaged (Expected `object`, got `int` - at `$.spec`)"),
    ("run.json", json.dumps({"spec": asdict(SPEC) | {"protocol": "new"}}).encode(), "'new'"),
    ("run.json", json.dumps({"spec": asdict(SPEC) | {"lr": "fast"}}).encode(), "got `str` - at `$.spec.lr`"),
    ("summary.json", b"\xff", "is damaged"),
    ("summary.json", b"{}", "is damaged (Object missing required field `status`)"),
    (
        "summary.json",
        b'{"status": "finished", "epochs": "many"}',
        "is damaged (Expected `int`, got `str` - at `$.epochs`)",
    ),
]


@pytest.mark.parametrize(("name", "content", "why"), BROKEN)
def test_damaged_runs_are_named_and_the_others_shown(tmp_path, name, content, why):
    broken = made(tmp_path, 0.5, seed=1)
    (broken.path / name).write_bytes(content)
    made(tmp_path, 0.5)
    found = read_runs(tmp_path)
    assert seeds(map(rows.row_of, found.records)) == [0]
    assert list(found.damaged) == [broken.path]
    assert str(broken.path / name) in found.damaged[broken.path]
    assert why in found.damaged[broken.path]


@pytest.mark.parametrize("line", [b'{"epoch": 1}\n', b"[]\n", b"\x00\n"])
def test_damaged_metrics_of_unfinished_runs(tmp_path, line):
    broken = made(tmp_path, 0.5, finished=False)
    (broken.path / "metrics.jsonl").write_bytes(line)
    found = read_runs(tmp_path)
    assert found.records == []
    assert "metrics.jsonl" in found.damaged[broken.path]


def test_folders_that_hold_no_run(tmp_path):
    made(tmp_path, 0.5)
    (tmp_path / "notes" / "deep").mkdir(parents=True)
    (tmp_path / "exp2" / "empty").mkdir()
    (tmp_path / "exp2" / "curves.png").write_bytes(b"")
    (tmp_path / "exp2" / ".hidden.partial").mkdir()
    give_up(RunDirectory(tmp_path / "exp3" / "given-up"), "no memory")
    found = read_runs(tmp_path)
    assert (len(found.records), found.damaged) == (1, {})
    assert {path.name: why.partition(": ")[2] for path, why in found.foreign.items()} == {
        "notes": "it has no run.json",
        "empty": "it has no run.json",
        "given-up": "it has no run.json, as it failed at its start (no memory)",
    }


def test_choosing(four, tmp_path):
    found = rows_below(tmp_path)

    def chosen(*only):
        return sorted(seeds(rows.choose_rows(found, list(only))))

    assert chosen() == [0, 1, 2, 3]
    assert chosen("lr=1e-3") == [0, 2, 3] == chosen("lr=.001")
    assert chosen("batch_size=64,256") == [2]
    assert chosen("batch_size=64, 128") == [0, 1, 2, 3]
    assert chosen("status=finished,diverged", "protocol=sound") == [1, 3]
    assert chosen("seed=1", "seed=2") == [1, 2]
    assert chosen("seed=1", "lr=0.001") == []
    assert chosen("val_accuracy=0.8") == [3]


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("batchsize=64", "--only batchsize: no such field; did you mean batch_size?"),
        ("qqq=1", "--only qqq: no such field; there are run_id, experiment, protocol"),
        ("lr", "--only 'lr' is not of the form key=value, as in --only lr=1e-4"),
        ("lr=fast", "--only lr=fast: 'fast' is not of type float"),
        ("seed=0,", "--only seed=: '' is not of type int"),
    ],
)
def test_choices_that_cannot_be_are_refused(only, message):
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        rows.choose_rows([], [only])


def test_sorting_has_runs_without_a_value_last(tmp_path):
    for seed, accuracy in enumerate((0.5, None, 0.25, 0.75)):
        made(tmp_path, accuracy, seed=seed)
    found = rows_below(tmp_path)
    assert seeds(rows.in_order(found, "val_accuracy")) == [2, 0, 3, 1]
    assert seeds(rows.in_order(found, "-val_accuracy")) == [3, 0, 2, 1]
    assert seeds(rows.in_order(found, "-seed")) == [3, 2, 1, 0]
    assert rows.in_order(found, None) == found
    assert rows.in_order(found, "-lr") == found  # equal ones stay in their order
    with pytest.raises(UsageError, match=r"--sort accuracy: no such field; did you mean val_accuracy\?"):
        rows.in_order(found, "accuracy")


# the table


def test_the_table_has_what_differs_and_the_line_above_what_does_not(tmp_path):
    for seed in (0, 1):
        made(tmp_path, 0.5, 0.75, seed=seed)
    notes, table = overview.overview(rows_below(tmp_path), 140)
    lines = table.lines(140)
    assert notes == [
        "2 runs, all of experiment 2, protocol sound, model cnn, batch_size 128, lr 0.001, l2 0, dropout 0.5, recipe "
        "basic, precision bfloat16, kept_epoch 2, val_loss 0.2500, images_per_s 1,500, seconds 0.2, max_epochs 100, "
        "pipeline resident, tune full, weights none, optimizer adam, schedule constant, smoothing 0, code none, "
        "dataset digits"
    ]
    assert lines[0].split() == ["val_"]
    assert lines[1].split() == ["run_id", "seed", "epochs", "accuracy", "status"]
    assert set(lines[2]) == {"─"}
    assert lines[3].split() == [find_runs(tmp_path)[0].path.name, "0", "2", "0.7500", "finished"]


def test_datasets_have_their_names_and_where_these_are_equal_their_hashes(tmp_path):
    def shown(*rows):
        notes, table = overview.overview([dict.fromkeys(COLUMNS) | {"run_id": "a-1"} | row for row in rows], 140)
        return " ".join([*notes, *table.lines(140)])

    digits, others = {"dataset_name": "digits", "dataset": "ab" * 32}, {"dataset_name": "others", "dataset": "cd" * 32}
    assert "dataset digits" in shown(digits, digits)
    assert "abab" not in shown(digits, others)
    twice = shown(digits, digits | {"dataset": "cd" * 32}, others | {"dataset": "ef" * 32})
    assert "digits abababababab" in twice
    assert "digits cdcdcdcdcdcd" in twice
    assert "efef" not in twice
    assert "dataset cdcdcdcdcdcd" in shown(others | {"dataset_name": None})


def test_a_table_of_250_runs_is_made_in_a_second_and_fits(tmp_path):
    lines = epochs(*[0.5 + n / 1000 for n in range(60)])
    for n in range(250):
        spec = replace(
            SPEC, seed=n, batch_size=(64, 128)[n % 2], lr=(1e-3, 1e-4)[n % 2], l2=(0.0, 0.01)[n % 2],
            dropout=(0.0, 0.5)[n % 2], recipe=("none", "erasing")[n % 2], protocol=("sound", "report")[n % 2],
        )  # fmt: skip
        directory = RunDirectory.of(spec, tmp_path)
        with directory.locked():
            known = lines[: 30 + n % 30]
            (directory.path / "run.json").write_text(json.dumps({"spec": asdict(spec), **CONTEXT}))
            (directory.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in known))
            if n % 4:
                (directory.path / "summary.json").write_text(json.dumps(summary_of(spec, known, 9)))
            reseal(directory.path / "run.json", lambda _: None)  # in place of 10,000 appended lines
    started = time.perf_counter()
    found = rows_below(tmp_path)
    notes, table = overview.overview(found, 140)
    printed = render(table, 140).splitlines()
    assert time.perf_counter() - started < 1
    assert len(found) == 250
    assert len(table.lines(140)) == 250 + 3
    assert max(map(len, printed)) <= 140
    assert "run_id: only its last part is shown, which is enough for --diff" in notes
    first = printed[3].split()[0]
    assert difference.named(first, tmp_path).path.name.endswith(f"-{first}")
    _, table = overview.overview(found, 80)
    printed = render(table, 80).splitlines()
    assert len(table.lines(80)) == 250 + 3
    assert printed[253].startswith("no room for ")
    assert " ".join(printed[253:]).endswith(": --wide or --csv - shows them")
    assert max(map(len, printed)) <= 80


def test_an_error_is_one_line_that_is_not_too_long_nor_markup(command, tmp_path):
    directory = made(tmp_path, 0.5, finished=False)
    made(tmp_path, 0.5, seed=1)
    give_up(directory, "[red] alert\n" + "no memory " * 50)
    lines = overview.overview(rows_below(tmp_path), 300)[1].lines(300)
    assert len(lines) == 3 + 2
    assert "  [red] alert no memory no" in lines[3]
    assert lines[3].endswith("…")
    give_up(directory, "[red]")
    assert command("runs", "--out", tmp_path).out.splitlines()[5].endswith("  failed    [red]")


# two runs


def test_two_runs_side_by_side(tmp_path):
    a = made(tmp_path, 0.5, 0.75)
    environment = CONTEXT["environment"] | {"versions": {"torch": "2.9.1", "dali": None}, "gpus": ["H100"]}
    b = made(tmp_path, 0.5, 0.5, 0.5, lr=0.01, context=CONTEXT | {"environment": environment, "device": "cuda"})
    found = difference.Difference.of(a, b)
    assert found.configuration == {
        "lr": (0.001, 0.01),
        "environment.versions.torch": ("2.9.0", "2.9.1"),
        "environment.gpus": ([], ["H100"]),
        "device": ("cpu", "cuda"),
    }
    assert found.results["val_accuracy"] == (0.75, 0.5)
    assert found.first == 2
    assert found.metrics.keys() == {"train_loss", "val_loss", "val_accuracy"}
    assert found.plain()["results"]["kept_epoch"] == {"a": 2, "b": 1, "difference": -1}
    assert found.plain()["metrics"]["identical"] is False
    assert found.sentences() == [
        "the metrics first differ in epoch 2: train_loss 0.3500000000000001 and 0.6000000000000001; "
        "val_loss 0.25 and 0.5; val_accuracy 0.75 and 0.5"
    ]


def test_metrics_that_do_not_differ(tmp_path):
    a, b = made(tmp_path / "a", 0.5, 0.75), made(tmp_path / "b", 0.5, 0.75, finished=False)
    times = {"seconds": 9.0, "images_per_s": 1.0, "stall": 0.5}
    reseal(b.path / "metrics.jsonl", lambda lines: [line.update(times) for line in lines])
    b.keep_metrics(2)
    assert difference.Difference.of(a, b).sentences() == [
        "configuration and environment are the same",
        "the metrics are identical in all 2 epochs, except for timings",
    ]
    assert difference.Difference.of(a, b).plain()["metrics"] == {
        "epochs": (2, 2), "identical": True, "first_different_epoch": None, "differ": {},
    }  # fmt: skip
    b.append_metrics(epochs(0, 0, 0.8)[2])
    assert difference.Difference.of(a, b).sentences()[1] == (
        "the metrics are identical in the 2 epochs that both runs have, except for timings; B goes on to epoch 3"
    )
    assert difference.Difference.of(b, a).plain()["metrics"]["identical"] is False


def test_what_a_run_may_be_called(four, tmp_path):
    name = four[0].path.name
    assert difference.named(name, tmp_path).path == four[0].path
    assert difference.named(str(four[0].path), tmp_path / "elsewhere").path == four[0].path
    assert difference.named("cnn-basic-b64", tmp_path).path == four[2].path
    assert difference.named("b64", tmp_path).path == four[2].path
    assert difference.named(name[-8:], tmp_path).path == four[0].path
    with pytest.raises(UsageError, match=r"--diff cnn: 4 runs match: cnn-.*; give more of the id"):
        difference.named("cnn", tmp_path)
    with pytest.raises(UsageError, match=r"there is no such run below .*; did you mean cnn-basic-b64"):
        difference.named(four[2].path.name + "x", tmp_path)
    with pytest.raises(UsageError, match=r"--diff q: there is no such run below .*; fastcifar runs --out .* shows"):
        difference.named("q", tmp_path)


# the command


def test_runs_are_printed(command, four, tmp_path):
    answer = command("runs", "--out", tmp_path, "--only", "protocol=sound", "--sort", "-val_accuracy")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("3 runs, all of experiment 2, protocol sound, model cnn, l2 0, dropout 0.5, ")
    order = [next(n for n, run in enumerate(four) if run.path.name[-8:] in line)
             for line in answer.out.splitlines() if "0." in line and "-s" in line]  # fmt: skip
    assert order == [3, 2, 1]
    answer = command("runs", "--out", tmp_path, "--sort", "seed", "--json")
    assert json.loads(answer.out) == rows.in_order(rows_below(tmp_path), "seed")


def test_a_pretrained_run_is_shown_without_building_its_network(command, tmp_path):
    spec = asdict(PRETRAINED) | {"model": "timm:not_a_model"}
    directory = RunDirectory(tmp_path / "exp4" / run_id_of(spec))
    with directory.locked():
        (directory.path / "run.json").write_text(json.dumps({"spec": spec}))
    answer = command("runs", "--out", tmp_path)
    assert answer.code == 0
    assert answer.out.startswith("1 run of experiment 4, protocol sound, model timm:not_a_model, ")


def test_exports(command, four, tmp_path):
    file = tmp_path / "all.csv"
    answer = command("runs", "--out", tmp_path, "--csv", file)
    assert answer == Answer(0, f"{file}: 4 runs\n", "")
    found = rows_below(tmp_path)
    with open(file, newline="") as opened:
        read = list(csv.DictReader(opened))
    assert [
        {key: None if text == "" else COLUMNS[key](text) for key, text in row.items()} for row in read
    ] == found  # every digit
    assert list(read[0]) == list(COLUMNS)
    answer = command("runs", "--out", tmp_path, "--csv", "-", "--only", "batch_size=64")
    assert list(csv.DictReader(io.StringIO(answer.out))) == [row for row in read if row["batch_size"] == "64"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.csv", "exp2"]


def test_damage_is_told_apart(command, four, tmp_path):
    (four[0].path / "summary.json").write_text("{")
    (tmp_path / "[notes]").mkdir()
    answer = command("runs", "--out", tmp_path, "--csv", "-")
    assert answer.code == 0
    assert len(answer.out.splitlines()) == 1 + 3
    damaged, foreign = answer.err.splitlines()
    assert damaged.startswith(f"skipped: {four[0].path / 'summary.json'} is damaged (")
    assert damaged.endswith(f"; delete {four[0].path} to train it anew")
    assert foreign == f"skipped: {tmp_path}/[notes] is no run: it has no run.json"
    listed = json.loads(command("list", "runs", "--out", tmp_path, "--json").out)["runs"]
    assert sorted(row["status"] for row in listed) == ["damaged", "diverged", "finished", "unfinished"]
    assert {"run": four[0].path.name, "status": "damaged", "epochs": "", "accuracy, %": ""} in listed

    for run in four:
        (run.path / "run.json").write_text("{")
    answer = command("runs", "--out", tmp_path)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.splitlines()[-1] == f"error: no run below {tmp_path} can be read; 4 runs damaged, see above"


def test_a_value_of_only_that_no_run_has_is_told(command, four, tmp_path):
    only = ("--only", "status=finishd,finished", "--only", "lr=0.001,0.02")
    said = [
        "no run has --only status=finishd; did you mean finished? There are diverged, finished, unfinished",
        "no run has --only lr=0.02; did you mean 0.01? There are 0.001, 0.01",
    ]
    answer = command("runs", "--out", tmp_path, *only, "--csv", "-")
    assert (answer.code, answer.err.splitlines()) == (0, said)
    assert len(answer.out.splitlines()) > 1
    answer = command("runs", "--out", tmp_path, "--only", "model=cn", "--json")
    assert answer == Answer(0, "[]\n", "no run has --only model=cn; there is cnn\n")


def test_nothing_to_show(command, four, tmp_path):
    answer = command("runs", "--out", tmp_path, "--only", "status=done", "--only", "lr=1e-3")
    assert answer == Answer(
        0,
        f"none of 4 runs below {tmp_path} matches --only; status has diverged, finished, unfinished; "
        "lr has 0.001, 0.01\n",
        "",
    )
    (tmp_path / "empty").mkdir()
    assert command("runs", "--out", tmp_path / "empty") == Answer(0, f"no runs below {tmp_path / 'empty'} yet\n", "")
    assert command("runs", "--out", tmp_path / "empty", "--json").out == "[]\n"


def test_diff_is_printed(command, four, tmp_path):
    answer = command("runs", "--out", tmp_path, "--diff", "b64", four[3].path)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[:2] == [f"A: {four[2].path.name}", f"B: {four[3].path.name}"]
    table = rows_of(answer.out)
    assert ["batch_size", "64", "128"] in table
    assert ["seed", "2", "3"] in table
    assert ["val_accuracy", "0.7000", "0.8000", "+0.1000"] in table
    assert ["epochs", "3", "2", "-1"] in table
    assert ["status", "unfinished", "finished"] in table
    assert lines[-1].startswith("the metrics first differ in epoch 1: train_loss ")
    answer = command("runs", "--out", tmp_path, "--diff", "b64", four[3].path, "--json")
    assert json.loads(answer.out)["configuration"] == {"batch_size": [64, 128], "seed": [2, 3]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "sed=1"], "--only sed: no such field; did you mean seed"),
        (["--sort", "-accuracy"], "--sort accuracy: no such field; did you mean val_accuracy?"),
        (["--csv", "-", "--json"], "--csv and --json are two forms of the same output; leave out one of them"),
        (["--csv", "{tmp}/runs.txt"], "runs.txt: the export is a CSV file; call it runs.txt.csv, for example"),
        (["--csv", "{tmp}/no/runs.csv"], "runs.csv: there is no folder {tmp}/no; make it first: mkdir -p {tmp}/no"),
        (["--diff", "b64", "b64"], "--diff b64 b64: both are the run cnn-basic-b64"),
        (["--diff", "b64", "none"], "--diff none: there is no such run below {tmp}; fastcifar runs --out {tmp} shows"),
        (["--diff", "b64", "cnn"], "--diff cnn: 4 runs match: cnn-"),
        (["--diff", "b64", "s0", "--sort", "lr"], "--diff only compares two runs; leave out --only, "),
        (["--out", "{tmp}/no"], "there is no folder {tmp}/no; fastcifar train makes it, or give another folder"),
    ],
)
def test_misuse_names_the_thing_its_value_and_the_cure(command, four, tmp_path, arguments, message):
    before = sorted(tmp_path.rglob("*"))
    answer = command("runs", "--out", tmp_path, *(text.format(tmp=tmp_path) for text in arguments))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    assert message.format(tmp=tmp_path) in answer.err
    assert answer.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
