"""Clocks, order of contestants, bandwidth, memory and the environment that a measurement carries."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fastcifar.errors import UsageError
from fastcifar.system import machine, measure

MIB = 1 << 20


def test_a_clock_tells_waiting_from_work() -> None:
    with measure.Clock() as asleep:
        time.sleep(0.2)
    assert 0.2 <= asleep.seconds < 1.0
    assert asleep.cpu_seconds < 0.1
    with measure.Clock() as busy:
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
    assert 0.2 <= busy.cpu_seconds < 0.4
    assert busy.seconds >= 0.9 * busy.cpu_seconds


def test_contestants_alternate_and_the_first_rotates() -> None:
    ran: list[str] = []
    timings = measure.alternate({name: lambda name=name: ran.append(name) for name in "abc"}, repeats=3, warmup=1)  # type: ignore[misc]
    assert "".join(ran) == "abcbcacababc"
    assert [timings[name].repeats for name in "abc"] == [3, 3, 3]  # the warm-up is not among them


def test_a_timing_is_of_its_own_contestant() -> None:
    timings = measure.alternate({"slow": lambda: time.sleep(0.05), "fast": lambda: None}, repeats=3, warmup=0)
    assert timings["slow"].min >= 0.05
    assert timings["fast"].max < 0.05


def test_median_min_and_max() -> None:
    timing = measure.Timing(seconds=(3.0, 1.0, 2.0, 10.0), cpu_seconds=(0.0,) * 4)
    assert (timing.median, timing.min, timing.max, timing.repeats) == (2.5, 1.0, 10.0, 4)


@pytest.mark.parametrize(("names", "repeats", "warmup"), [((), 5, 1), (("a",), 0, 1), (("a",), 5, -1)])
def test_what_cannot_be_timed_is_refused(names: tuple[str, ...], repeats: int, warmup: int) -> None:
    with pytest.raises(UsageError, match="at least one contestant"):
        measure.alternate({name: lambda: None for name in names}, repeats, warmup)


def test_bandwidth_is_that_of_filling_and_copying() -> None:
    found = measure.memory_bandwidth(threads=1, size=64 * MIB, repeats=5)
    target = np.zeros(64 * MIB, np.uint8)
    by_hand = measure.alternate({"fill": lambda: target.fill(7)}, repeats=5)["fill"]
    assert found.write == pytest.approx(64 * MIB / by_hand.median, rel=0.9)
    assert 0 < found.copy < 2 * found.write  # a copy writes as much, and reads besides


@pytest.mark.parametrize(("threads", "size"), [(0, MIB), (-1, MIB), (2, 1)])
def test_bandwidth_refuses_no_threads_and_no_bytes(threads: int, size: int) -> None:
    with pytest.raises(UsageError, match="at least one thread"):
        measure.memory_bandwidth(threads, size)


@pytest.mark.whole
def test_peak_memory_grows_by_what_is_held_and_does_not_fall() -> None:
    before = measure.peak_rss_bytes()
    held = np.ones(before, np.uint8)  # as much again, whatever the peak was
    after = measure.peak_rss_bytes()
    assert after >= held.nbytes - 2 * MIB
    del held
    assert measure.peak_rss_bytes() >= after - 2 * MIB


def test_peak_memory_is_the_process_s_own_not_its_parent_s() -> None:
    code = "from fastcifar.system.measure import peak_rss_bytes; print(peak_rss_bytes())"
    held = np.ones(512 * MIB, np.uint8)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=machine.CHECKOUT)
    assert 10 * MIB < int(ran.stdout) < held.nbytes


def test_the_environment_names_machine_and_software() -> None:
    found = measure.environment()
    assert json.loads(json.dumps(found)) == found
    assert 1 <= found["cores"] <= 4096
    assert found["memory_bytes"] > 256 * MIB
    assert found["cpu"]
    assert found["python"] == sys.version.split()[0]
    assert found["versions"]["numpy"] == np.__version__
    assert set(found["versions"]) == {"torch", "torchvision", "numba", "numpy", "triton", "ffcv", "dali"}


def test_the_environment_is_read_without_importing_heavy_libraries() -> None:
    code = "import sys; from fastcifar.system.measure import environment; environment(); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=machine.CHECKOUT)
    assert not {"torch", "numba", "ffcv", "triton"} & set(ran.stdout.split())


def test_versions_of_what_is_not_installed_are_none() -> None:
    assert machine.version("no-such-distribution") is None
    assert machine.version("no-such-distribution", "numpy") == np.__version__


def git(folder: Path, *command: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *identity, *command], check=True, capture_output=True)


def test_commit_and_dirty_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CHECKOUT", tmp_path)
    assert machine.commit() == (None, None)
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    head, dirty = machine.commit()
    assert head is not None
    assert (len(head), dirty) == (40, False)

    (tmp_path / "bench" / "results").mkdir(parents=True)
    (tmp_path / "bench" / "results" / "rows.jsonl").write_text("{}")
    assert machine.commit() == (head, False)
    (tmp_path / "code.py").write_text("2")
    assert machine.commit() == (head, True)

    # As when installed somewhere inside another project: its commit is not ours.
    monkeypatch.setattr(machine, "CHECKOUT", tmp_path / "bench")
    assert machine.commit() == (None, None)


def test_the_commit_is_ours_even_inside_another_repository_s_hook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init")
    monkeypatch.setattr(machine, "CHECKOUT", tmp_path)
    git(tmp_path, "commit", "--allow-empty", "-m", "one")
    expected = machine.commit()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert machine.commit() == expected != (None, None)


def test_quota_and_limits_of_a_control_group_count(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/sys/fs/cgroup/cpu.max": "100000 100000", "/sys/fs/cgroup/memory.max": str(3 * MIB)}
    monkeypatch.setattr(machine, "read", lambda path: files.get(path, ""))
    assert machine.usable_cores() == 1
    assert machine.memory_bytes() == 3 * MIB
    files.update({"/sys/fs/cgroup/cpu.max": "max 100000", "/sys/fs/cgroup/memory.max": "max"})
    assert machine.usable_cores() >= 1
    assert machine.memory_bytes() > 3 * MIB


def test_a_process_may_be_kept_to_fewer_cores_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_most_cores", machine._most_cores)  # put back afterwards
    monkeypatch.setattr(machine, "read", lambda path: "")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(8)))
    assert machine.usable_cores() == 8
    machine.keep_to_cores(3)
    assert machine.usable_cores() == 3
    machine.keep_to_cores(99)
    assert machine.usable_cores() == 8


def test_gpus_are_read_from_the_driver_s_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_output", lambda *_: "NVIDIA H200, 580.65.06, 143771, 9.0\nNo devices were found")
    assert machine.gpus() == [
        {"name": "NVIDIA H200", "driver": "580.65.06", "memory_mib": "143771", "capability": "9.0"}
    ]
    monkeypatch.setattr(machine, "_output", lambda *_: None)
    assert machine.gpus() == []


@pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="glibc"
)
def test_freed_memory_is_kept_and_not_cleared_again() -> None:
    code = """if True:
        import resource, sys, numpy as np
        from fastcifar.system import machine
        if sys.argv[1] == "kept":
            machine.keep_freed_memory()
        def faults():
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        def use():
            kept = [np.ones(n, np.uint8) for n in (3_000_000, 2_000_000, 40_000_000)]
        use()
        before = faults()
        for _ in range(20):
            use()
        print(faults() - before)
    """
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True).stdout)
        for how in ("kept", "given back")
    )
    assert kept < 20 < given_back / 5
