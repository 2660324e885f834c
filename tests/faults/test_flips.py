"""A flipped bit in any file of a run: the commands and a resumed training say so, or nothing depends on the bit."""

import random
import shutil

import pytest
import torch
from support.runs import spec_of, untimed

from fastcifar.report import predictions
from fastcifar.report.predictions import Predictions, predict
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.record import RunRecord
from fastcifar.runs.trained import TrainedRun
from fastcifar.training import loop
from tools.attacks.mutations import attempt

CPU = torch.device("cpu")
FLIPS = 12  # in each file


@pytest.fixture(scope="module")
def runs(synthetic, tmp_path_factory):
    """A finished run with predictions, and an unfinished one with a checkpoint."""
    out = tmp_path_factory.mktemp("runs")
    whole, begun = (spec_of(synthetic, seed=seed, epochs=3) for seed in (0, 1))
    loop.train(whole, synthetic, out, CPU)
    assert predict([RunDirectory.of(whole, out).path], synthetic, CPU) == []
    with pytest.raises(KeyboardInterrupt):
        loop.train(begun, synthetic, out, CPU, watch=stop_after(2))
    return whole, begun, out


def stop_after(epochs):
    def watch(line):
        if line["epoch"] == epochs:
            raise KeyboardInterrupt

    return watch


def found_in(spec, out, synthetic):
    """Everything that commands read of a run: its record, lines, kept weights and predictions."""
    directory = RunDirectory.of(spec, out)
    record, run, saved = RunRecord.read(directory), TrainedRun.open(directory.path), Predictions.read(directory)
    weights = {name: tensor.tobytes() for name, tensor in tensors(run.network(CPU))}
    return record.begun, record.summary, record.lines, weights, saved and saved.clean.tolist()


def tensors(network):
    return ((name, tensor.numpy()) for name, tensor in network.state_dict().items())


def flipped(content, rng):
    at = rng.randrange(8 * len(content))
    return content[: at // 8] + bytes([content[at // 8] ^ 1 << at % 8]) + content[at // 8 + 1 :]


@pytest.mark.whole
def test_every_file_of_a_finished_run(runs, synthetic, tmp_path):
    spec, _, out = runs
    before, rng = found_in(spec, out, synthetic), random.Random("finished")
    files, predicted = RunDirectory.of(spec, out).files(), f"{predictions.FILES['validation']}.safetensors"
    assert {file.name for file in files} == {
        "run.json", "metrics.jsonl", "model.safetensors", predicted, "summary.json"
    }  # fmt: skip
    for file in files:
        said = 0
        for _ in range(FLIPS):
            copy = tmp_path / "runs"
            shutil.copytree(out, copy, dirs_exist_ok=True)
            (copy / file.relative_to(out)).write_bytes(flipped(file.read_bytes(), rng))
            found, error = attempt(lambda: found_in(spec, copy, synthetic))  # noqa: B023 - called at once
            assert found == before if error is None else file.name in error
            said += error is not None
        assert said > FLIPS / 2, f"{file.name}: of {FLIPS} flipped bits, {said} were noticed"


def gone_on(spec, out, dataset):
    """Train a run on to its end, and return its metrics."""
    loop.train(spec, dataset, out, CPU)
    TrainedRun.open(RunDirectory.of(spec, out).path)
    return untimed(RunDirectory.of(spec, out).metrics())


@pytest.mark.whole
def test_every_file_of_a_run_that_goes_on(runs, synthetic, tmp_path):
    _, spec, out = runs
    loop.train(spec, synthetic, tmp_path / "whole", CPU)
    whole = untimed(RunDirectory.of(spec, tmp_path / "whole").metrics())
    files, rng = RunDirectory.of(spec, out).files(), random.Random("unfinished")
    assert "checkpoint.safetensors" in {file.name for file in files}
    for file in files:
        said = 0
        for number in range(FLIPS // 3):
            copy = tmp_path / f"{file.name}{number}"
            shutil.copytree(out, copy)
            (copy / file.relative_to(out)).write_bytes(flipped(file.read_bytes(), rng))
            found, error = attempt(lambda: gone_on(spec, copy, synthetic))  # noqa: B023 - called at once
            assert found == whole if error is None else file.name in error
            said += error is not None
        assert said or file.name == "model.safetensors"  # the last epoch writes it anew
