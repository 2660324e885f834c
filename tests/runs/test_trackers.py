"""What W&B and MLflow are told of a run: every epoch once, whatever the interruptions. The libraries are stand-ins."""

import sys
from dataclasses import asdict
from types import ModuleType, SimpleNamespace

import pytest
from support.runs import CPU, spec_of
from support.specs import SPEC

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.logs import LIBRARIES, LOGS, log_of
from fastcifar.runs.tensorboard import SCALARS
from fastcifar.training import session
from fastcifar.training.options import Options


class FakeWandB(ModuleType):
    """The service: by run-id, the options of its last init, and its metrics by step."""

    def __init__(self):
        super().__init__("wandb")
        self.records, self.finished = {}, []

    def init(self, **options):
        history = self.records.setdefault(options["id"], (options, {}))[1]

        class Run:
            step = max(history, default=-1) + 1

            @staticmethod
            def log(values, step):
                assert step not in history
                history[step] = values

            @staticmethod
            def finish():
                self.finished.append(options["id"])

        return Run()

    def metrics(self, run_id):
        return self.records[run_id][1]

    def parameters(self, run_id):
        return self.records[run_id][0]["config"]


class FakeMLflow(ModuleType):
    """The service: its experiments, and its runs with parameters and metrics."""

    def __init__(self):
        super().__init__("mlflow")
        self.experiments, self.runs, self.finished = {}, {}, []
        self.MlflowClient = lambda: self

    def get_experiment_by_name(self, name):
        return self.experiments.get(name)

    def create_experiment(self, name):
        self.experiments[name] = SimpleNamespace(experiment_id=f"id of {name}")
        return f"id of {name}"

    def search_runs(self, experiments, query):
        assert experiments == ["id of fastcifar"]
        return [run for run in self.runs.values() if query == f"tags.`fastcifar.run_id` = '{run.name}'"]

    def create_run(self, experiment, tags, run_name):
        info = SimpleNamespace(run_id=f"#{len(self.runs)}")
        self.runs[info.run_id] = SimpleNamespace(info=info, name=tags["fastcifar.run_id"], parameters={}, metrics={})
        assert tags["fastcifar.run_id"] == run_name
        return self.runs[info.run_id]

    def log_param(self, run, key, value):
        self.runs[run].parameters[key] = value

    def log_metric(self, run, tag, value, step):
        values = self.runs[run].metrics.setdefault(step, {})
        assert tag not in values
        values[tag] = value

    def get_metric_history(self, run, tag):
        return [SimpleNamespace(step=step) for step, values in self.runs[run].metrics.items() if tag in values]

    def set_terminated(self, run):
        self.finished.append(self.runs[run].name)

    def named(self, run_id):
        (found,) = (run for run in self.runs.values() if run.name == run_id)
        return found

    def metrics(self, run_id):
        return self.named(run_id).metrics

    def parameters(self, run_id):
        return self.named(run_id).parameters


@pytest.fixture(params=["wandb", "mlflow"])
def service(request, monkeypatch):
    fake = {"wandb": FakeWandB, "mlflow": FakeMLflow}[request.param]()
    monkeypatch.setitem(sys.modules, request.param, fake)
    for name in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return fake


def expected(lines):
    return {line["epoch"]: {tag: line[key] for tag, key in SCALARS.items() if line[key] is not None} for line in lines}


def test_every_epoch_once_whatever_the_interruptions(service, synthetic, tmp_path):
    spec, log = spec_of(synthetic, epochs=4, recipe="flip=0.5,crop=4"), log_of(service.__name__)

    class Stopping:
        def __init__(self, *arguments):
            self._log = log(*arguments)
            self.close = self._log.close

        def __call__(self, line):
            self._log(line)
            if line["epoch"] == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.run([spec], synthetic, tmp_path, CPU, Options(), Stopping)
    directory = RunDirectory.of(spec, tmp_path)
    assert service.metrics(spec.run_id) == expected(directory.metrics()[:2])
    for _ in range(2):  # the second session finds a finished run
        session.run([spec], synthetic, tmp_path, CPU, Options(), log)
        assert service.metrics(spec.run_id) == expected(directory.metrics())
    assert len(service.metrics(spec.run_id)) == 4
    assert service.parameters(spec.run_id) == asdict(spec)
    assert service.finished == [spec.run_id] * 3


def test_a_loss_that_is_not_finite_is_left_out(service, tmp_path):
    directory = RunDirectory.of(SPEC, tmp_path)
    watcher = log_of(service.__name__)(SPEC, directory)
    line = {"epoch": 1, "train_loss": None, "val_loss": None, "val_accuracy": None, "images_per_s": 10.0}
    watcher(line)
    assert service.metrics(SPEC.run_id) == {1: {"images_per_s": 10.0}}
    watcher.close()


def test_a_run_that_never_began_is_not_recorded(service, tmp_path):
    log_of(service.__name__)(SPEC, RunDirectory.of(SPEC, tmp_path)).close()
    assert service.finished == []


def test_an_error_of_the_library_is_said(service, tmp_path, monkeypatch):
    def refuse(*arguments, **named):
        raise ValueError("no key")

    monkeypatch.setattr(service, "init" if service.__name__ == "wandb" else "get_experiment_by_name", refuse, False)
    watcher = log_of(service.__name__)(SPEC, RunDirectory.of(SPEC, tmp_path))
    with pytest.raises(FastcifarError, match=rf"--log {service.__name__} failed \(ValueError: no key\); once it works"):
        watcher({"epoch": 1})
    watcher.close()


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_library_is_said_with_the_command(name, monkeypatch):
    monkeypatch.setitem(sys.modules, LIBRARIES[name], None)
    with pytest.raises(
        UsageError,
        match=rf"--log {name} needs the extra {name}, .*; pip install -e '\.\[{name}\]' in fastcifar's checkout",
    ):
        log_of(name)
    assert name in LOGS
