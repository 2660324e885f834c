"""Runs that train together: each as if it were alone, whoever trains beside it."""

import gc
import weakref

import numpy as np
import pytest
import torch
from support.packs import TWENTY, some_specs
from support.runs import CPU, left_by, spec_of

from fastcifar.errors import DoesNotFit, FastcifarError
from fastcifar.packs import training
from fastcifar.packs.feed import Feed
from fastcifar.packs.options import Callbacks, PackOptions
from fastcifar.packs.stacked import Stacked
from fastcifar.packs.training import train_stacked
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.files import RunFiles
from fastcifar.training.loop import train
from fastcifar.training.options import silent


def outcomes_of(specs, dataset, out, way="grouped", watch=lambda spec, line: None, say=silent):
    """By run: summary or error."""
    outcomes = {}
    train_stacked(specs, dataset, out, CPU, PackOptions(way=way, say=say), Callbacks(watch, outcomes.__setitem__))
    return outcomes


def pack(specs, dataset, out, way="grouped", watch=lambda spec, line: None):
    """By run: summary or error, and what train.train's tests compare: lines and weights."""
    outcomes = outcomes_of(specs, dataset, out, way, watch)
    return {spec: (outcomes[spec], *left_by(spec, out)) for spec in specs}


def close(lines, others):
    """Whether two runs' lines are those of the same run to rounding that Adam has magnified."""
    assert [line["epoch"] for line in lines] == [line["epoch"] for line in others]
    return all(
        line["train_loss"] == pytest.approx(other["train_loss"], rel=TWENTY)
        for line, other in zip(lines, others, strict=True)
    )


@pytest.mark.whole
@pytest.mark.parametrize("protocol", ["sound", "as-run"])
def test_a_packs_runs_are_the_solo_runs(digits, tmp_path, protocol):
    specs = [
        spec_of(digits, batch_size=64, lr=1e-3, epochs=2, protocol=protocol, seed=seed, recipe=recipe, dropout=dropout)
        for seed, recipe, dropout in ((0, "basic", 0.5), (1, "basic", 0.0), (0, "erasing", 0.5))
    ]
    for spec, (summary, lines, _) in pack(specs, digits, tmp_path / "together").items():
        alone = train(spec, digits, tmp_path / "alone", CPU)
        assert close(lines, left_by(spec, tmp_path / "alone")[0])
        assert summary.keys() == alone.keys()
        assert abs(summary["val_accuracy"] - alone["val_accuracy"]) < 0.05
        assert summary["mode"] == "grouped"


@pytest.mark.whole
def test_it_learns_as_well_as_alone(digits, tmp_path):
    specs = [spec_of(digits, batch_size=64, lr=3e-3, epochs=5, seed=seed) for seed in range(3)]
    together = [summary["val_accuracy"] for summary, *_ in pack(specs, digits, tmp_path).values()]
    alone = [train(spec, digits, tmp_path / "alone", CPU)["val_accuracy"] for spec in specs]
    spread = max(np.std(alone, ddof=1), 0.02)
    assert min(together) > 0.8
    assert abs(np.mean(together) - np.mean(alone)) < 2 * spread


@pytest.mark.whole
@pytest.mark.parametrize("model", ["cnn", "mlp_s", "vit"])
def test_a_run_that_diverges_leaves_and_harms_nobody(synthetic, tmp_path, model):
    good = [spec_of(synthetic, model=model, lr=1e-3, seed=seed) for seed in range(2)]
    wild = spec_of(synthetic, model=model, lr=1e3, seed=5)
    found = pack([good[0], wild, good[1]], synthetic, tmp_path / "with")
    without = pack(good, synthetic, tmp_path / "without")
    assert found[wild][0]["status"] == "diverged"
    assert len(found[wild][1]) < wild.epochs
    for spec in good:
        assert found[spec][0]["status"] == "finished"
        assert len(found[spec][1]) == spec.epochs
        assert close(found[spec][1], without[spec][1])


class Interrupted(Exception):
    pass


def interrupting(after):
    """A watch that gives up when it has seen so many epochs."""
    seen = iter(range(after))

    def watch(spec, line):
        if next(seen, None) is None:
            raise Interrupted

    return watch


@pytest.mark.whole
@pytest.mark.parametrize("waiting", [0, 1 << 28])
def test_a_full_disk_ends_the_pack_and_every_run_goes_on_from_whole_files(synthetic, tmp_path, monkeypatch, waiting):
    specs = [spec_of(synthetic, seed=n, epochs=2, lr=1e-3) for n in range(training.WRITERS + 2)]
    whole = pack(specs, synthetic, tmp_path / "whole")
    full, append = RunDirectory.of(specs[3], tmp_path / "full").path, RunFiles.append

    def failing(self, name, content):
        if self.path == full and b'"epoch": 2' in content:
            raise FastcifarError("disk full")
        append(self, name, content)

    monkeypatch.setattr(training, "WAITING", waiting)
    monkeypatch.setattr(RunFiles, "append", failing)
    with pytest.raises(FastcifarError, match="disk full"):
        pack(specs, synthetic, tmp_path / "full")
    monkeypatch.undo()
    assert len(RunDirectory(full).metrics()) == 1
    for spec, (summary, lines, _) in pack(specs, synthetic, tmp_path / "full").items():
        assert summary["status"] == "finished"
        assert close(lines, whole[spec][1])


@pytest.mark.whole
@pytest.mark.parametrize(("share", "stacks"), [(1.0, [4, 3, 2, 1]), (0.5, [4, 1]), (0.6, [4, 2, 1])])
def test_a_stack_lasts_while_a_share_of_its_runs_trains(synthetic, tmp_path, monkeypatch, share, stacks):
    """Runs that have ended train on in vain until the stack is made anew, and their files stay as they are."""
    made, ended = [], []
    monkeypatch.setitem(training.STAYING, "cpu", share)
    monkeypatch.setattr(training, "Stacked", lambda learners, *of: made.append(len(learners)) or Stacked(learners, *of))
    specs = [
        spec_of(synthetic, seed=n, epochs=n + 1, lr=1e-3, schedule=schedule)
        for n, schedule in enumerate(["onecycle", "cosine", "constant", "onecycle"])
    ]
    results = pack(specs, synthetic, tmp_path / "together", watch=lambda spec, line: ended.append(spec.seed))
    assert made == stacks
    assert ended == [0, 1, 2, 3, 1, 2, 3, 2, 3, 3]
    for spec, (summary, lines, _) in results.items():
        assert summary["epochs"] == len(lines) == spec.epochs
        train(spec, synthetic, tmp_path / "alone", CPU)
        assert close(lines, left_by(spec, tmp_path / "alone")[0])


@pytest.mark.whole
@pytest.mark.parametrize("after", [0, 1, 4])
def test_interrupted_it_goes_on_to_the_same_end(synthetic, tmp_path, after):
    specs = some_specs(synthetic, "cnn", 11, 3)
    whole = pack(specs, synthetic, tmp_path / "whole")
    with pytest.raises(Interrupted):
        pack(specs, synthetic, tmp_path / "cut", watch=interrupting(after))
    again = pack(specs, synthetic, tmp_path / "cut")
    for spec in specs:
        assert again[spec][1:] == whole[spec][1:]


@pytest.mark.whole
def test_runs_at_different_epochs_go_on_together_and_alone(synthetic, tmp_path):
    specs = [spec_of(synthetic, lr=1e-3, seed=seed, recipe="basic") for seed in range(2)]
    expected = pack(specs, synthetic, tmp_path / "whole")
    with pytest.raises(Interrupted):  # the first alone: two epochs
        train(specs[0], synthetic, tmp_path / "mixed", CPU, watch=lambda line: interrupt_at(2, line))
    mixed = pack(specs, synthetic, tmp_path / "mixed")
    for spec in specs:
        assert close(mixed[spec][1], expected[spec][1])
    with pytest.raises(Interrupted):
        pack(specs, synthetic, tmp_path / "alone", watch=lambda spec, line: interrupt_at(3, line))
    for spec in specs:  # begun in a pack, ended without
        train(spec, synthetic, tmp_path / "alone", CPU)
        assert close(left_by(spec, tmp_path / "alone")[0], expected[spec][1])


def interrupt_at(epoch, line):
    if line["epoch"] == epoch:
        raise Interrupted


@pytest.mark.whole
def test_out_of_memory_halves_the_pack(synthetic, tmp_path, monkeypatch):
    specs = [spec_of(synthetic, lr=1e-3, seed=seed) for seed in range(4)]
    whole = pack(specs, synthetic, tmp_path / "whole")
    step, said = Stacked.step, []

    def scarce(self, *arguments, **options):
        if self.shape[0] > 2:
            raise torch.OutOfMemoryError("no memory for so many")
        return step(self, *arguments, **options)

    monkeypatch.setattr(Stacked, "step", scarce)
    outcomes = outcomes_of(specs, synthetic, tmp_path, say=said.append)
    assert "4 runs of cnn do not fit on cpu together; now 2 train at a time" in said[0]
    for spec in specs:
        assert outcomes[spec]["status"] == "finished"
        assert close(left_by(spec, tmp_path)[0], whole[spec][1])
    monkeypatch.setattr(Stacked, "step", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("not enough memory")))
    outcomes = outcomes_of(specs[:2], synthetic, tmp_path / "none")
    assert "has no memory for" in str(outcomes[specs[0]])
    assert isinstance(outcomes[specs[1]], FastcifarError)


def test_a_pack_whose_images_do_not_fit_is_halved_too(synthetic, tmp_path, monkeypatch):
    specs = [spec_of(synthetic, lr=1e-3, seed=seed, epochs=1) for seed in range(3)]
    opened, said = Feed.open, []

    def scarce(name, dataset, asked, behind):
        if len(asked) > 2:
            raise DoesNotFit("the dataset, its order and a batch of 16 take 154 MiB")
        return opened(name, dataset, asked, behind)

    monkeypatch.setattr(Feed, "open", scarce)
    outcomes = outcomes_of(specs, synthetic, tmp_path, say=said.append)
    assert said == ["3 runs of cnn do not fit on cpu together; now 2 train at a time"]
    assert {outcome["status"] for outcome in outcomes.values()} == {"finished"}


def test_a_stack_is_gone_before_a_smaller_one_is_made(synthetic, tmp_path, monkeypatch):
    """With their graphs, whose memory is their own, both might not fit."""
    specs = [spec_of(synthetic, lr=1e-3, seed=seed, epochs=1 + seed) for seed in range(3)]
    made, alive, init = [], [], Stacked.__init__
    given = []

    def give_back(device):
        given.append([stack() for stack in made if stack() is not None])

    monkeypatch.setattr("fastcifar.packs.training.give_back", give_back)

    def noted(self, *arguments, **options):
        alive.append([stack().shape for stack in made if stack() is not None])
        made.append(weakref.ref(self))
        init(self, *arguments, **options)

    monkeypatch.setattr(Stacked, "__init__", noted)
    gc.disable()
    try:
        pack(specs, synthetic, tmp_path)
    finally:
        gc.enable()
    assert alive == [[], [], []]
    assert given == [[], [], []]  # a graph's memory is given back once nothing refers to it


def test_each_stack_has_a_peak_of_its_own(synthetic, tmp_path, monkeypatch):
    """The peak of the device's memory, and what is only kept of it, are forgotten when a stack or a half begins."""
    told = []

    def trains(runs, packing, say_earlier):
        told.append(len(runs))
        if len(runs) > 1:
            raise DoesNotFit("too much")

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: told.append(str(device)))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: told.append("kept"))
    monkeypatch.setattr("fastcifar.packs.training._train", trains)
    cuda, specs = torch.device("cuda:1"), [spec_of(synthetic, seed=seed) for seed in range(2)]
    train_stacked(
        specs, synthetic, tmp_path, cuda, PackOptions(way="grouped"), Callbacks(lambda *_: None, lambda *_: None)
    )
    again = ["kept", "cuda:1"]
    assert told == [*again, 2, "kept", *again, 1, *again, 1]


def test_a_directory_in_use_or_damaged_is_that_runs_alone(synthetic, tmp_path):
    specs = [spec_of(synthetic, lr=1e-3, seed=seed, epochs=1) for seed in range(3)]
    damaged = RunDirectory.of(specs[1], tmp_path)
    damaged.path.mkdir(parents=True)
    (damaged.path / "checkpoint.safetensors").write_bytes(b"no")
    with RunDirectory.of(specs[0], tmp_path).locked():
        found = outcomes_of(specs, synthetic, tmp_path)
    assert "another process is training" in str(found[specs[0]])
    assert "is damaged" in str(found[specs[1]])
    assert found[specs[2]]["status"] == "finished"


def test_what_is_finished_is_not_trained_again(synthetic, tmp_path):
    specs = [spec_of(synthetic, lr=1e-3, seed=seed, epochs=1) for seed in range(2)]
    first = pack(specs, synthetic, tmp_path)
    assert pack(specs, synthetic, tmp_path, watch=interrupting(0)) == first
