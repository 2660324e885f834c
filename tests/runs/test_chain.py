"""The chain of seals in a run directory: no change to a file of a run is believed."""

import json
import shutil
from contextlib import suppress

import pytest
import torch
from safetensors.torch import save_file
from support.kept import kept
from support.runs import CPU, spec_of, untimed, weights_hash
from support.seals import change_json, load, note_of, reseal, rewrite_tensors, unseal

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.report.predictions import FILES, Predictions
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.files import RunFiles
from fastcifar.runs.record import RunRecord, read_runs
from fastcifar.runs.trained import TrainedRun
from fastcifar.system.seals import SEAL
from fastcifar.training import loop
from fastcifar.training.learner import Learner
from fastcifar.training.record import resume

EPOCHS = 4
SPLITS = {file: split for split, file in FILES.items()}


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def moments(synthetic, tmp_path_factory):
    """(spec, directories): of a run of EPOCHS epochs, copies after each epoch; the last one is of the finished run."""
    spec, out, copies = spec_of(synthetic, epochs=EPOCHS, batch_size=40), tmp_path_factory.mktemp("moments"), []
    directory = RunDirectory.of(spec, out / "now")

    def copy(_):
        copies.append(RunDirectory.of(spec, out / str(len(copies))))
        shutil.copytree(directory.path, copies[-1].path)

    loop.train(spec, synthetic, out / "now", CPU, copy)
    return spec, [*copies, directory]


@pytest.fixture(scope="module")
def learner(moments):
    return Learner.new(moments[0], 10, CPU)


@pytest.fixture
def copied(moments, tmp_path):
    """Copy the run as it was after an epoch, or as it ended (-1), to a place where it may be changed."""

    def copy(moment):
        directory = RunDirectory.of(moments[0], tmp_path / "copy")
        shutil.copytree(moments[1][moment].path, directory.path)
        return directory

    return copy


def trained_on(directory, moments, synthetic):
    """Train a copied run to its end; return its lines."""
    loop.train(moments[0], synthetic, directory.path.parent.parent, CPU)
    return untimed(directory.metrics())


def read(directory):
    """Read all that a run says, as `runs`, report and predict do."""
    record = RunRecord.read(RunDirectory(directory.path))
    TrainedRun.open(directory.path)
    return record.lines


# the lines

LINES = {
    "halved": lambda lines, n: lines.__setitem__(n, lines[n][: len(lines[n]) // 2] + b"\n"),
    "doubled": lambda lines, n: lines.insert(n, lines[n]),
    "swapped": lambda lines, n: lines.__setitem__(slice(n - 1, n + 1), [lines[n], lines[n - 1]]),
    "deleted": lambda lines, n: lines.pop(n),
    "of another digit": lambda lines, n: lines.__setitem__(n, lines[n].replace(b'_loss": 2.', b'_loss": 3.', 1)),
    "of another epoch": lambda lines, n: lines.__setitem__(n, lines[n].replace(b'"epoch": ', b'"epoch": 1', 1)),
    "without its newline": lambda lines, n: lines.__setitem__(n, lines[n][:-1]),
    "without its seal": lambda lines, n: lines.__setitem__(n, lines[n][: lines[n].index(b', "seal"')] + b"}\n"),
    "spaced": lambda lines, n: lines.__setitem__(n, lines[n].replace(b": ", b":  ")),
}


def change_lines(directory, change, n):
    file = directory.path / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    change(lines, n)
    assert b"".join(lines) != file.read_bytes()
    file.write_bytes(b"".join(lines))


@pytest.mark.parametrize("n", [1, EPOCHS - 1])
@pytest.mark.parametrize("change", LINES)
def test_a_change_to_the_lines_of_a_finished_run_is_an_error(change, n, copied):
    directory = copied(-1)
    assert len(read(directory)) == EPOCHS
    change_lines(directory, LINES[change], n)
    with pytest.raises(
        FastcifarError, match=r"metrics\.jsonl.*epoch.*; delete .* to train it anew|line \d of .*metrics"
    ):
        read(directory)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("change", [name for name in LINES if name != "spaced"])
def test_a_change_to_the_lines_before_the_checkpoint_is_an_error(change, n, copied, learner):
    directory = copied(2)
    if change == "doubled":
        n -= 1  # a copy of the last line comes after the checkpoint's
    change_lines(directory, LINES[change], n)
    with pytest.raises(FastcifarError, match=r"metrics\.jsonl.*epoch|line \d of .*metrics\.jsonl is damaged"):
        resume(learner, directory)


@pytest.mark.parametrize("change", LINES)
def test_a_change_to_the_lines_after_the_checkpoint_is_dropped(change, copied, moments, learner):
    """These lines are of an epoch that is trained again, as after a kill between the line and the checkpoint."""
    directory = copied(2)
    shutil.copy(moments[1][1].path / "checkpoint.safetensors", directory.path)
    before = (moments[1][1].path / "metrics.jsonl").read_bytes()
    if change == "swapped":
        change_lines(directory, lambda lines, n: lines.extend(lines[::-1]), 2)
    else:
        change_lines(directory, LINES[change], 2)
    assert [line["epoch"] for line in resume(learner, directory)] == [1, 2]
    assert (directory.path / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("moment", [1, -1])
def test_lines_without_any_seal_do_not_pass_for_lines_of_before(moment, copied):
    directory = copied(moment)
    change_json(directory.path / "metrics.jsonl", lambda lines: [line.pop("seal") for line in lines])
    with pytest.raises(FastcifarError, match=r"metrics\.jsonl is damaged \(the line of epoch 1 is not the one"):
        read(directory)


# summary.json and run.json


@pytest.mark.parametrize("key", ["epochs", "kept_epoch", "val_accuracy", "val_loss", "parameters", "seconds"])
def test_a_summary_of_another_number_is_an_error(key, copied):
    directory = copied(-1)
    change_json(directory.path / "summary.json", lambda summary: summary.update({key: summary[key] / 2}))
    change_json(directory.path / "summary.json", lambda summary: summary.update({key: int(summary[key]) or 1}))
    with pytest.raises(FastcifarError, match=r"summary\.json is damaged \(its seal is not that of its content\)"):
        read(directory)


@pytest.mark.parametrize("key", ["seal", "metrics"])
def test_a_summary_without_its_seals_is_an_error(key, copied):
    directory = copied(-1)
    change_json(directory.path / "summary.json", lambda summary: summary.pop(key))
    with pytest.raises(FastcifarError, match=r"summary\.json is damaged"):
        read(directory)


@pytest.mark.parametrize(
    ("key", "value"), [("epochs", 3), ("kept_epoch", None), ("val_accuracy", 1), ("val_loss", 9.0)]
)
@pytest.mark.parametrize("old", [False, True])
def test_a_summary_that_contradicts_the_lines_is_an_error(key, value, old, copied):
    directory = copied(-1)
    reseal(directory.path / "summary.json", lambda summary: summary.update({key: value}))
    if old:
        unseal(directory.path)
    with pytest.raises(FastcifarError, match=rf"summary\.json is damaged \({key} is {value}, but .* in metrics\.jsonl"):
        _ = RunRecord.read(directory).lines


def test_a_summary_of_another_run_is_an_error(copied, synthetic, tmp_path):
    directory, other = copied(-1), kept(synthetic, tmp_path / "other")
    shutil.copy(other / "summary.json", directory.path)
    with pytest.raises(FastcifarError, match=r"summary\.json is damaged"):
        read(directory)


@pytest.mark.parametrize("moment", [1, -1])
@pytest.mark.parametrize("old", [False, True])
def test_a_spec_of_another_run_and_a_renamed_directory_are_errors(moment, old, copied, moments, synthetic):
    directory = copied(moment)
    if old:
        unseal(directory.path)
    written = (directory.path / "run.json").read_text()
    change = change_json if old else reseal
    change(directory.path / "run.json", lambda begun: begun["spec"].update(lr=0.5))
    message = r"run\.json has the spec of run .*lr0\.5.*not the name of its directory.*give the directory the name"
    for reading in (read, lambda directory: trained_on(directory, moments, synthetic)):
        with pytest.raises(FastcifarError, match=message):
            reading(directory)
    (directory.path / "run.json").write_text(written)
    renamed = RunDirectory(directory.path.rename(directory.path.with_name("renamed")))
    with pytest.raises(FastcifarError, match=rf"renamed/run\.json has the spec of run {moments[0].run_id}, which is"):
        read(renamed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda begun: begun["spec"].update(lr=0.5), "its seal is not"),
        (lambda begun: begun["dataset"].update(sha256="0" * 64), "its seal is not"),
        (lambda begun: begun["dataset"].update(verified=False), "its seal is not"),
        (lambda begun: begun["environment"].update(cpu="another"), "its seal is not"),
        (lambda begun: begun.pop("seal"), "it has a seal, but run.json has none"),
    ],
)
@pytest.mark.parametrize("moment", [1, -1])
def test_a_changed_run_json_is_an_error(change, message, moment, copied):
    directory = copied(moment)
    change_json(directory.path / "run.json", change)
    with pytest.raises(FastcifarError, match=rf"\.jsonl? is damaged \(.*({message}|its seal)"):
        read(directory)


# files of tensors


def test_a_flipped_bit_anywhere_in_a_file_of_tensors_is_an_error(tmp_path):
    """In the header and in the data, one bit of each byte."""
    directory = RunDirectory(tmp_path)
    directory.save_tensors("model", {"a": torch.arange(6.0), "b": torch.ones(3)}, {"epoch": 1, "line": "ab"})
    file = tmp_path / "model.safetensors"
    content = file.read_bytes()
    for n in range(len(content)):
        file.write_bytes(content[:n] + bytes([content[n] ^ 1 << n % 8]) + content[n + 1 :])
        with pytest.raises(FastcifarError, match=r"model\.safetensors is damaged"):
            directory.load_tensors("model", CPU, must_be_sealed=True)


FIRST = "model.head.weight"
STATE = {
    "int8 weights": lambda tensors, _: tensors.update({FIRST: tensors[FIRST].to(torch.int8)}),
    "float64 weights": lambda tensors, _: tensors.update({FIRST: tensors[FIRST].double()}),
    "a missing tensor": lambda tensors, _: tensors.pop(FIRST),
    "a missing moment": lambda tensors, _: tensors.pop("adam.exp_avg.head.weight"),
    "a surplus tensor": lambda tensors, _: tensors.update({"model.more": torch.ones(1)}),
    "a misshapen tensor": lambda tensors, _: tensors.update({FIRST: tensors[FIRST].T}),
    "a misshapen moment": lambda tensors, _: tensors.update({"adam.exp_avg.head.bias": torch.ones(1)}),
    "no scaler": lambda _, note: note.pop("scaler"),
}


@pytest.mark.parametrize("change", STATE)
def test_a_checkpoint_that_is_not_the_run_s_state_is_an_error(change, copied, learner):
    directory = copied(1)
    rewrite_tensors(directory.path / "checkpoint.safetensors", STATE[change])
    before = {name: value.clone() for name, value in learner.state()[0].items()}
    with pytest.raises(
        FastcifarError, match=r"checkpoint\.safetensors does not hold the state of .*; delete .* to train"
    ):
        resume(learner, directory)
    if change != "no scaler":
        after, _ = learner.state()
        assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_changed_or_missing_checkpoint_is_an_error_and_without_the_run_it_starts_again(copied, moments, synthetic):
    directory = copied(1)
    file = directory.path / "checkpoint.safetensors"
    content = file.read_bytes()
    for n in (100, len(content) // 2, len(content) - 1):  # the header, and the data
        file.write_bytes(content[:n] + bytes([content[n] ^ 4]) + content[n + 1 :])
        with pytest.raises(FastcifarError, match=r"checkpoint\.safetensors is damaged .*; delete .* to train it anew"):
            trained_on(directory, moments, synthetic)
    file.unlink()
    with pytest.raises(
        FastcifarError, match=r"checkpoint\.safetensors is damaged \(it is missing beside metrics\.jsonl\)"
    ):
        trained_on(directory, moments, synthetic)
    shutil.rmtree(directory.path)
    assert trained_on(directory, moments, synthetic) == untimed(moments[1][-1].metrics())


@pytest.mark.parametrize("of", ["another epoch", "a later moment", "another run", "no line", "no seal"])
def test_a_checkpoint_of_another_place_is_an_error(of, copied, moments, synthetic, learner, tmp_path):
    directory = copied(1)
    file = directory.path / "checkpoint.safetensors"
    if of == "another epoch":
        rewrite_tensors(file, lambda _, note: note.update(epoch=1))
    elif of == "a later moment":
        shutil.copy(moments[1][2].path / file.name, file)
    elif of == "another run":
        spec = spec_of(synthetic, seed=1, epochs=EPOCHS, batch_size=40)

        def stop(line):
            if line["epoch"] == 2:
                raise Stopped

        with suppress(Stopped):
            loop.train(spec, synthetic, tmp_path / "other", CPU, stop)
        shutil.copy(RunDirectory.of(spec, tmp_path / "other").path / file.name, file)
    elif of == "no line":
        rewrite_tensors(file, lambda _, note: note.pop("line"))
    else:
        tensors, about = load(file)
        note = {key: value for key, value in json.loads(about["note"]).items() if key != SEAL}
        save_file(tensors, file, {"note": json.dumps(note)})
    with pytest.raises(FastcifarError, match=r"checkpoint\.safetensors (does not belong|is damaged|was written)"):
        resume(learner, directory)


def test_a_checkpoint_of_an_earlier_moment_is_continued_from(copied, moments, synthetic):
    """It is whole, and the later epochs are trained again with the same metrics."""
    directory = copied(2)
    shutil.copy(moments[1][0].path / "checkpoint.safetensors", directory.path)
    assert trained_on(directory, moments, synthetic) == untimed(moments[1][-1].metrics())


@pytest.mark.parametrize("of", ["another epoch", "another run", "no line", "no seal"])
@pytest.mark.parametrize("name", ["model", *SPLITS])
def test_kept_tensors_of_another_place_are_an_error(name, of, copied, moments, synthetic, tmp_path):
    directory = copied(-1)
    file, epoch = directory.path / f"{name}.safetensors", directory.summary()["kept_epoch"]
    other = kept(synthetic, tmp_path / "other", batch_size=40)
    note = note_of(directory.path, epoch)
    note |= {
        "another epoch": note_of(directory.path, epoch % EPOCHS + 1),
        "another run": {"line": note_of(other, 3)["line"]},
        "no line": {"line": None},
        "no seal": {},
    }[of]
    tensors = load(directory.path / "model.safetensors")[0]
    if name != "model":
        tensors = {key: torch.zeros(8, dtype=torch.uint8) for key in ("labels", "clean", "augmented")}
        tensors["ids"] = torch.arange(8)
    directory.save_tensors(name, tensors, note)
    if of == "no seal":
        save_file(tensors, file, {"note": json.dumps(note)})
    with pytest.raises(FastcifarError, match=rf"{name}\.safetensors (does not belong to|is of|is damaged)"):
        TrainedRun.open(directory.path) if name == "model" else Predictions.read(directory, SPLITS[name])


# interruptions


@pytest.mark.parametrize("after", [False, True])
def test_stopped_at_one_write_after_another_the_run_ends_with_the_same_metrics(
    after, moments, synthetic, tmp_path, monkeypatch
):
    """Session n stops before or after its nth write, whichever file that is; a full disk would stop it there."""
    left = 0

    def stopping(write):
        def stop(*arguments):
            nonlocal left
            left -= 1
            if left == 0 and not after:
                raise Stopped
            write(*arguments)
            if left == 0:
                raise Stopped

        return stop

    for name in ("write", "append"):
        monkeypatch.setattr(RunFiles, name, stopping(getattr(RunFiles, name)))
    directory = RunDirectory.of(moments[0], tmp_path)
    for session in range(1, 20):
        left = session
        with suppress(Stopped):
            loop.train(moments[0], synthetic, tmp_path, CPU)
            break
    assert 3 < session < 19
    assert untimed(read(directory)) == untimed(moments[1][-1].metrics())
    assert weights_hash(directory) == weights_hash(moments[1][-1])


# runs of before there were seals


def test_a_run_of_before_is_read_and_said_to_be_unchecked(copied):
    directory = copied(-1)
    assert RunRecord.read(RunDirectory(directory.path)).checked == "yes"
    lines, epoch = directory.metrics(), TrainedRun.open(directory.path).epoch
    unseal(directory.path)
    record = RunRecord.read(RunDirectory(directory.path))
    assert (record.checked, record.lines, record.status) == ("no", lines, "finished")
    run = TrainedRun.open(directory.path)
    assert (run.epoch, run.line) == (epoch, None)
    run.network(CPU)


def test_a_run_of_before_is_trained_on_without_seals(copied, moments, synthetic):
    directory = copied(1)
    unseal(directory.path)
    assert trained_on(directory, moments, synthetic) == untimed(moments[1][-1].metrics())
    (done,) = read_runs(directory.path.parent.parent).records
    assert (done.checked, done.status, len(done.lines)) == ("no", "finished", EPOCHS)
    assert b'"seal"' not in b"".join(file.read_bytes() for file in done.path.glob("*.json*"))
    TrainedRun.open(done.path)


@pytest.mark.parametrize("moment", [1, -1])
@pytest.mark.parametrize("verified", [True, False])
def test_a_run_goes_on_with_a_dataset_as_verified_as_its_own_or_not_at_all(
    verified, moment, copied, synthetic, moments
):
    """A finished run, too: its summary would pass for one of the other dataset."""
    directory = copied(moment)
    if not verified:
        reseal(directory.path / "run.json", lambda begun: begun["dataset"].update(verified=False))
    other = Dataset.open(synthetic.path, verify=not verified)
    message = "leave out --no-verify to go on" if verified else "was trained with --no-verify"
    with pytest.raises(UsageError, match=message):
        loop.train(moments[0], other, directory.path.parent.parent, CPU)


def test_a_run_without_its_first_file_is_not_begun_anew(copied, moments, synthetic):
    directory = copied(1)
    (directory.path / "run.json").unlink()
    with pytest.raises(FastcifarError, match=r"run\.json is damaged \(it is missing beside metrics\.jsonl\)"):
        trained_on(directory, moments, synthetic)
    (lost,) = read_runs(directory.path.parent.parent).foreign.values()
    assert "is a run whose run.json is lost; delete" in lost


def test_a_run_is_found_through_a_link_and_in_its_own_experiment_only(copied, tmp_path):
    directory = copied(-1)
    link = tmp_path / "best"
    link.symlink_to(directory.path)
    assert RunRecord.read(RunDirectory(link)).status == "finished"
    assert TrainedRun.open(link).spec == TrainedRun.open(directory.path).spec
    out = directory.path.parent.parent
    shutil.copytree(out / "exp2", out / "exp3")
    read = read_runs(out)
    assert len(read.records) == 1
    (message,) = read.damaged.values()
    assert message.endswith(f"is a run of experiment 2; move it to {out}/exp2")
