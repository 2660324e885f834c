"""Commands where no cache folder can be written: the folders are chosen, and a command that compiles says where to."""

import pytest
from support.throughput import made

from fastcifar.grid.scheduler import Results
from fastcifar.system import caches
from fastcifar.throughput import heat

SENTENCE = "compiled kernels are kept elsewhere"


@pytest.fixture
def nowhere(monkeypatch):
    """No folder of numba can be written. Nothing is trained or timed."""
    monkeypatch.setattr(caches, "tell_of_numba", lambda say: say(SENTENCE))
    monkeypatch.setattr("fastcifar.grid.plan.train_grid", lambda *_: Results())
    monkeypatch.setattr("fastcifar.grid.plan.unfinished", lambda specs, out: [])
    monkeypatch.setattr("fastcifar.system.measure.write_bandwidth", lambda *_: 1e10)
    monkeypatch.setattr("fastcifar.system.quiet.look", list)
    monkeypatch.setattr(heat, "hold", lambda *_: [made("resident", [240.0] * 5)])


def test_a_grid_says_it_for_its_workers(nowhere, command, synthetic, tmp_path):
    """Each of them would say it otherwise."""
    answer = command("grid", "--exp", "1", "--data", synthetic.path, "--out", tmp_path / "out")
    assert answer.err.count(SENTENCE) == 1, answer.err


def test_a_benchmark_says_it_for_its_contestants(nowhere, command, synthetic, tmp_path):
    """Nobody reads what their processes say."""
    answer = command("bench", "--quick", "--data", synthetic.path, "--batch-sizes", "16", "--out", tmp_path / "rows")
    assert answer.code == 0, answer.err
    assert answer.err.count(SENTENCE) == 1, answer.err


def test_every_command_has_the_libraries_keep_their_files_where_they_can(command, monkeypatch):
    chosen = []
    monkeypatch.setattr(caches, "choose", lambda: chosen.append(1))
    assert command("list", "recipes").code == 0
    assert chosen == [1]
