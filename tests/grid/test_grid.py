"""A grid as people meet it: planned, killed, started again, shared by two processes, and the same every time."""

import json
import os
import signal
import subprocess

import pytest
from support.grid import RUNS, answer, epochs, grid, prepared, results, start, wait_for

from fastcifar.runs.directory import find_runs


def finish(data, out, whole):
    """Run the same command again: it finishes what is left, with the results of a grid that was not disturbed."""
    code, _, err = grid(data, out)
    assert code == 0, err
    assert results(out) == whole[1]


@pytest.mark.slow
def test_killed_at_any_moment_and_started_again_it_gives_the_same(digits, tmp_path, whole):
    out = prepared(tmp_path / "runs", whole)
    for behind in (3, 14):
        process = start(digits, out)
        wait_for(lambda behind=behind: epochs(out) >= behind)
        process.kill()
        process.communicate()
        wait_for(lambda: not any(directory.busy() for directory in find_runs(out)), 30)  # its worker ends as well
        assert epochs(out) >= behind, "what was on the disk stays there"
    finish(digits, out, whole)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")}
    code, told, err = grid(digits, out)
    assert code == 0, err
    assert f"{RUNS} runs, {RUNS} of them finished already" in told
    assert {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")} == before


@pytest.mark.slow
def test_two_processes_share_a_grid(digits, tmp_path, whole):
    out = prepared(tmp_path / "runs", whole)
    both = [start(digits, out) for _ in range(2)]
    for code, told, err in map(answer, both):
        assert code == 0, err
        assert f"{RUNS} of {RUNS} runs finished" in told
        assert "another process" not in err
    assert results(out) == whole[1]


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(digits, tmp_path, whole):
    out = prepared(tmp_path / "runs", whole)
    process = start(digits, out)
    wait_for(lambda: epochs(out) >= 2)
    children = subprocess.run(["ps", "-wwo", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True)
    (worker,) = [line.split()[0] for line in children.stdout.splitlines() if "spawn_main" in line]
    os.kill(int(worker), signal.SIGKILL)
    code, _, err = answer(process)
    assert code == 0, err
    assert "killed by SIGKILL; its runs are tried again" in err
    assert results(out) == whole[1]


@pytest.mark.slow
def test_what_failed_is_said_and_tried_again(digits, tmp_path, whole):
    out = prepared(tmp_path / "runs", whole)
    name = next(iter(whole[1]))
    in_the_way = out / "exp2" / name / "metrics.jsonl"
    in_the_way.mkdir(parents=True)
    code, told, err = grid(digits, out)
    assert code == 1
    assert f"{name} failed" in err
    assert "1 run failed; the same command tries again" in err
    assert "Traceback" not in err
    assert f"{RUNS - 1} of {RUNS} runs finished" in told
    in_the_way.rmdir()
    finish(digits, out, whole)


@pytest.mark.slow
def test_a_budget_ends_it_and_the_rest_goes_on_another_time(digits, tmp_path, whole):
    out = prepared(tmp_path / "runs", whole)
    code, told, err = grid(digits, out, "--budget", "0.5s")
    assert code == 0, err
    assert "left for another time" in told
    finish(digits, out, whole)


@pytest.mark.slow
def test_a_dry_run_trains_nothing_and_is_data_for_scripts(digits, tmp_path, whole):
    out = prepared(tmp_path / "runs", whole)
    code, told, err = grid(digits, out, "--dry-run", "--json")
    assert code == 0, err
    plan = json.loads(told)
    assert sorted(run_id for pack in plan["packs"] for run_id in pack["runs"]) == sorted(whole[1])
    assert [pack["way"] for pack in plan["packs"]] == ["serial", "serial"]
    assert not find_runs(out)
