"""What TensorBoard is told of a run: every epoch once, exactly, whatever the interruptions."""

import math
import sys
from dataclasses import asdict, replace

import pytest
import torch
from support.lines import line_of
from support.specs import SPEC

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.logs import log_of
from fastcifar.runs.outcome import summary_of
from fastcifar.runs.plan import headline_runs
from fastcifar.runs.tensorboard import SCALARS, Events
from fastcifar.training import session
from fastcifar.training.options import Options

CPU = torch.device("cpu")


def epoch(number, **more):
    values = {"val_loss": 2.3 / number, "seconds": 1 / 3, "images_per_s": 1e4 / 7, "stall": 0.0}
    return line_of(number, 2.1 / number, 1 - 0.7 / number, **values | more)


@pytest.fixture
def tensorboard():
    return pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )


@pytest.fixture
def written(tensorboard):
    """Read a run's events: of each tag, its epochs, times and values in the order in which they were written."""
    from tensorboard.util import tensor_util

    def read(directory):
        (_,) = (directory.path / "tensorboard").iterdir()  # TensorBoard takes files of one folder for one run
        events = tensorboard.EventAccumulator(str(directory.path / "tensorboard"), {"tensors": 0}).Reload()
        return {
            tag: [(e.step, e.wall_time, tensor_util.make_ndarray(e.tensor_proto).item()) for e in events.Tensors(tag)]
            for tag in events.Tags()["tensors"]
        }

    return read


@pytest.fixture
def directory(tmp_path):
    made = RunDirectory.of(SPEC, tmp_path)
    with made.locked():
        made.start(SPEC, {})
        yield made


def assert_told(written, lines):
    assert {tag: [(step, value) for step, _, value in events] for tag, events in written.items()} == {
        tag: [(line["epoch"], line[key]) for line in lines if line[key] is not None] for tag, key in SCALARS.items()
    }


def test_every_epoch_is_there_at_once_and_exactly(directory, written):
    events = Events(SPEC, directory)
    lines = [epoch(1), epoch(2), epoch(3)]
    for n, line in enumerate(lines, 1):
        events(line)
        assert_told(written(directory), lines[:n])
    events.close()
    times = [time for _, time, _ in written(directory)["val/loss"]]
    began = (directory.path / "run.json").stat().st_mtime
    assert times == pytest.approx([began + 1 / 3, began + 2 / 3, began + 1], abs=1e-3)


def test_numbers_that_are_none_are_left_out(directory, written):
    lines = [epoch(1), epoch(2, train_loss=None, val_loss=None, val_accuracy=None)]
    events = Events(SPEC, directory)
    for line in lines:
        events(line)
    events.close()
    assert_told(written(directory), lines)
    assert len(written(directory)["images_per_s"]) == 2


def test_a_run_that_goes_on_has_no_epoch_twice(directory, written):
    first = Events(SPEC, directory)
    first(epoch(1))
    first(epoch(2, train_loss=7.0))  # which the kill came before the checkpoint of
    first.close()
    (directory.path / "tensorboard" / "notes.txt").write_text("somebody's own")
    second = Events(SPEC, directory)
    lines = [epoch(1), epoch(2), epoch(3)]
    for line in lines:
        second(line)
    second.close()
    (directory.path / "tensorboard" / "notes.txt").unlink()  # still there
    assert_told(written(directory), lines)


def test_a_run_that_was_finished_without_is_written_as_it_is_closed(directory, written):
    lines = [epoch(1), epoch(2)]
    for line in lines:
        directory.append_metrics(line)
    Events(SPEC, directory).close()
    assert not (directory.path / "tensorboard").exists()  # it may be somebody else's, who is training
    directory.finish(summary_of(SPEC, lines, 10))
    Events(SPEC, directory).close()
    assert_told(written(directory), lines)
    Events(SPEC, directory).close()
    assert_told(written(directory), lines)


def test_the_spec_is_the_hyperparameters(directory, tensorboard):
    from tensorboard.plugins.hparams import metadata

    spec = replace(SPEC, seed=(1 << 64) - 1)
    events = Events(spec, directory)
    events(epoch(1))
    events.close()
    found = tensorboard.EventAccumulator(str(directory.path / "tensorboard")).Reload()
    content = found.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    told = {
        name: getattr(value, value.WhichOneof("kind"))
        for name, value in metadata.parse_session_start_info_plugin_data(content).hparams.items()
    }
    assert told == asdict(spec) | {"seed": "18446744073709551615"}  # a float64 would round it
    content = found.summary_metadata[metadata.EXPERIMENT_TAG].plugin_data.content
    metrics = metadata.parse_experiment_plugin_data(content).metric_infos
    assert {metric.name.tag for metric in metrics} <= SCALARS.keys()


def test_tensorboard_itself_reads_it(directory, tensorboard):
    """As its server does, which knows a plugin by a tag's metadata."""
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext

    events = Events(SPEC, directory)
    for number in (1, 2):
        events(epoch(number))
    events.close()
    runs = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(directory.path.parent)).Reload()
    provider = data_provider.MultiplexerDataProvider(runs, str(directory.path.parent))
    scalars = provider.read_scalars(RequestContext(), experiment_id="", plugin_name="scalars", downsample=100)
    (run,) = scalars.values()
    assert run.keys() == SCALARS.keys()
    assert [(point.step, point.value) for point in run["val/loss"]] == [(1, 2.3), (2, 2.3 / 2)]


def test_sessions_tell_it_of_their_runs(synthetic, tmp_path, written):
    specs = headline_runs(2, synthetic, seeds=[0, 1], **{"epochs": 2, "batch_size": 32})
    session.run(specs, synthetic, tmp_path, CPU, Options(), log_of("tensorboard"))
    for spec in specs:
        directory = RunDirectory.of(spec, tmp_path)
        assert_told(written(directory), directory.metrics())
        assert all(math.isfinite(value) for _, _, value in written(directory)["train/loss"])


def test_a_session_that_goes_on_tells_every_epoch_once(synthetic, tmp_path, written):
    class Stopping(Events):
        def __call__(self, line):
            super().__call__(line)
            if line["epoch"] == 2:
                raise KeyboardInterrupt

    (spec,) = headline_runs(2, synthetic, seeds=[0], **{"epochs": 4, "batch_size": 32})
    directory = RunDirectory.of(spec, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        session.run([spec], synthetic, tmp_path, CPU, Options(), Stopping)
    assert_told(written(directory), directory.metrics())
    session.run([spec], synthetic, tmp_path, CPU, Options(), log_of("tensorboard"))
    assert len(directory.metrics()) == 4
    assert_told(written(directory), directory.metrics())


def test_a_disk_that_takes_nothing_is_named(directory, tensorboard):
    (directory.path / "tensorboard").write_text("in the way")
    events = Events(SPEC, directory)
    with pytest.raises(FastcifarError, match=r"cannot write .*/tensorboard \(.*without --log, run the same command"):
        events(epoch(1))
    events.close()


def test_nobody_is_told_without_asking(directory):
    silent = log_of("none")(SPEC, directory)
    silent(epoch(1))
    silent.close()
    assert sorted(path.name for path in directory.path.iterdir()) == ["lock", "run.json"]


def test_what_cannot_be_told_is_refused(monkeypatch):
    with pytest.raises(UsageError, match="--log 'comet' is not one of none, tensorboard, wandb, mlflow"):
        log_of("comet")
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard" or "utils.tensorboard" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delattr(torch.utils, "tensorboard", raising=False)
    with pytest.raises(UsageError, match=r"needs the extra tensorboard, .* pip install -e '.\[tensorboard\]'"):
        log_of("tensorboard")
