"""A run with another number of epochs is a new run, and says so where an earlier run differs in nothing else."""

import pytest
from support.written_runs import spec_of, write_run

from fastcifar.runs.epochs import trained_anew


def test_a_finished_run_of_fewer_epochs_is_named_once_for_all_seeds(tmp_path):
    earlier = [spec_of(epochs=2, seed=seed) for seed in (0, 1)]
    for spec in earlier:
        write_run(tmp_path, spec, [0.1, 0.2])
    assert trained_anew([spec_of(epochs=5, seed=seed) for seed in (0, 1)], tmp_path) == [
        f"5 epochs make another run than {earlier[0].run_id}, which finished after 2 epochs and kept nothing to go on "
        "from; training begins at epoch 1"
    ]


def test_an_unfinished_run_goes_on_under_its_own_number(tmp_path):
    earlier = spec_of(epochs=4)
    write_run(tmp_path, earlier, [0.1], ended=False)
    (sentence,) = trained_anew([spec_of(epochs=9)], tmp_path)
    assert f"{earlier.run_id}, which stopped after 1 of 4 epochs and goes on with --epochs 4" in sentence


@pytest.mark.parametrize("other", [{"seed": 1}, {"recipe": "erasing"}, {"lr": 0.5}])
def test_other_runs_are_not_spoken_of(other, tmp_path):
    write_run(tmp_path, spec_of(epochs=2, **other), [0.1, 0.2])
    assert trained_anew([spec_of(epochs=5)], tmp_path) == []


def test_a_run_that_is_there_goes_on_without_a_word(tmp_path):
    write_run(tmp_path, spec_of(epochs=2), [0.1, 0.2])
    write_run(tmp_path, spec_of(epochs=5), [0.1], ended=False)
    assert trained_anew([spec_of(epochs=5)], tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff"])
def test_a_damaged_earlier_run_does_not_matter(content, tmp_path):
    directory = write_run(tmp_path, spec_of(epochs=2), [0.1, 0.2])
    (directory.path / "run.json").write_bytes(content)
    assert trained_anew([spec_of(epochs=5)], tmp_path) == []


def test_a_session_says_it_before_it_trains(synthetic, tmp_path, monkeypatch):
    import torch

    from fastcifar.runs.plan import headline_runs
    from fastcifar.training import session
    from fastcifar.training.options import Options

    def reached(*arguments):
        raise KeyboardInterrupt

    (short,) = headline_runs(2, synthetic, seeds=[0], epochs=1)
    write_run(tmp_path, short, [0.1])
    (longer,) = headline_runs(2, synthetic, seeds=[0], epochs=3)
    said = []
    monkeypatch.setattr(session, "Modes", reached)
    with pytest.raises(KeyboardInterrupt):
        session.run([longer], synthetic, tmp_path, torch.device("cpu"), Options(say=said.append))
    assert short.run_id in said[0]
