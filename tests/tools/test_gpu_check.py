"""The check of a GPU machine: its time is kept, its evidence outlives it, the next call goes on where it ended."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import torch
from support import ROOT
from support.scripts import script

from tools import evidence, processes
from tools.budget import RESERVE, ROWS, SUMMARY, Budget, Check, Step, copied, read_results

HANGS = (
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session={apart})\n"
    "open({path!r}, 'w').write(str(child.pid)); print('hanging', flush=True); time.sleep(60)"
)
# appends a row of a step to a file, as bench.lib.rows.append does, then does something else
ROW = (
    "import json, os, sys, time\n"
    "with open({path!r}, 'ab') as rows:\n"
    "    rows.write(json.dumps({{'step': {step!r}, 'says': {says!r}}}).encode() + b'\\n')\n"
    "{then}"
)


@pytest.fixture(scope="module")
def gpu_check() -> ModuleType:
    return script("tools/gpu_check.py")


def check(planned, out, seconds=300.0, resume=False, only=(), about=None) -> tuple[bool, dict[str, dict]]:
    """Run the steps; whether all passed, and the summary's steps by name."""
    passed = Check(planned, out, Budget(seconds), about or {"commit": None}, resume).run(only)
    return passed, summary(out)


def summary(out: Path) -> dict[str, dict]:
    return {step["name"]: step for step in json.loads((out / SUMMARY).read_text())["steps"]}


def step(name: str, code: str, limit: float = 30, **more) -> Step:
    return Step(name, "for a test", ("-c", code), limit, **{"least": 0.1} | more)


def writes(name: str, out: Path, says: str = "a", then: str = "", **more) -> Step:
    return step(name, ROW.format(path=str(out / ROWS), step=name, says=says, then=then), **more)


def said(out: Path) -> list[str]:
    return [row["says"] for row in evidence.read_rows(out / ROWS)]


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_for(what, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)


@pytest.mark.whole
def test_success_failure_and_timeout(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 1)
    child, out = tmp_path / "child", tmp_path / "out"
    planned = [
        step("fails", "import sys; print('broken'); sys.exit(3)", log="tests.log"),
        step("hangs", HANGS.format(path=str(child), apart=False), 2),
        step("works", "import fastcifar; print('from', fastcifar.__file__)"),
    ]
    started = time.monotonic()
    passed, found = check(planned, out, about={"environment": {"gpus": [{"name": "one"}]}, "commit": "abc"})
    assert not passed
    assert time.monotonic() - started < 30
    assert sorted(path.name for path in out.iterdir()) == ["bench.log", "summary.json", "tests.log"]
    assert [(each["name"], each["outcome"], each["status"]) for each in found.values()] == [
        ("fails", "failed", 3),
        ("hangs", "timed out", -9),
        ("works", "passed", 0),
    ]
    whole = json.loads((out / SUMMARY).read_text())
    assert (whole["passed"], whole["environment"], whole["commit"]) == (False, {"gpus": [{"name": "one"}]}, "abc")
    assert (found["works"]["commit"], found["works"]["gpus"], found["works"]["tail"]) == ("abc", ["one"], [])
    assert "broken" in found["fails"]["tail"]
    assert found["hangs"]["why"] == "ended after 2 s"
    assert "broken" in (out / "tests.log").read_text()
    log = (out / "bench.log").read_text()
    assert log.index("hanging") < log.index("hangs: timed out") < log.index(f"from {ROOT}")
    assert re.search(r"^hangs: timed out \(ended after 2 s\), [23] s, 0 rows$", capsys.readouterr().out, re.MULTILINE)
    wait_for(lambda: not alive(int(child.read_text())))


def test_a_step_is_told_its_folder_and_when_it_will_be_ended(tmp_path):
    assert check([step("told", "print('at most {limit} s, in {out}')", 7)], tmp_path)[0]
    assert f"\nat most 7.0 s, in {tmp_path}\n" in (tmp_path / "bench.log").read_text()


@pytest.mark.whole
def test_a_step_that_is_ended_takes_children_in_sessions_of_their_own_along(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 0.5)
    child = tmp_path / "child"
    check([step("hangs", HANGS.format(path=str(child), apart=True), 2)], tmp_path)
    wait_for(lambda: not alive(int(child.read_text())))


def test_what_a_step_leaves_running_is_ended(tmp_path):
    child = tmp_path / "child"
    code = HANGS.format(path=str(child), apart=False).rpartition(";")[0]  # without its own sleep
    assert check([step("leaves", code)], tmp_path)[0]
    wait_for(lambda: not alive(int(child.read_text())))


def test_nothing_else_in_the_folder_is_touched(tmp_path):
    (tmp_path / "mine.txt").touch()
    (tmp_path / "bench.log").write_text("of an earlier check")
    (tmp_path / f"rows.jsonl{evidence.PART}").write_text("of one that was killed")
    assert check([step("works", "print('well')")], tmp_path)[0]
    assert json.loads((tmp_path / SUMMARY).read_text())["passed"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.log", "mine.txt", "summary.json"]
    assert "earlier" not in (tmp_path / "bench.log").read_text()


def test_of_a_long_output_the_ends_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "LOG_BYTES", 1000)
    check([step("long", "print('first' + 'x' * 9000 + 'last')")], tmp_path)
    log = (tmp_path / "bench.log").read_text()
    assert len(log) < 1100
    assert "\nfirst" in log
    assert "last\n" in log
    assert re.search(r"\.\.\. 81\d\d bytes are left out", log)


@pytest.mark.whole
def test_the_budget_is_kept_whatever_the_steps_do(tmp_path, monkeypatch, capsys):
    """Its end comes before a step's limit; then whatever is left is not begun, and says how little time there was."""
    monkeypatch.setattr(processes, "GRACE", 1)
    hangs = HANGS.format(path=str(tmp_path / "child"), apart=False)
    planned = [step("quick", "pass", 1e6), step("hangs", hangs, 1e6), step("late", "pass", 1e6, least=0.5)]
    started = time.monotonic()
    passed, found = check(planned, tmp_path / "out", seconds=RESERVE + 3)
    taken = time.monotonic() - started
    assert not passed
    assert RESERVE < taken < RESERVE + 3 + processes.GRACE
    assert {name: each["outcome"] for name, each in found.items()} == {
        "quick": "passed", "hangs": "timed out", "late": "not begun"
    }  # fmt: skip
    assert found["late"]["why"] == "0 s left, but it needs at least 0.5 s"
    assert "late: not begun (0 s left, but it needs at least 0.5 s)" in capsys.readouterr().out


def test_a_limit_is_a_share_of_the_budget(tmp_path):
    budget = Budget(150)
    assert budget.limit(step("a", "", 60)) == 30
    assert budget.limit(step("c", "", 60, least=40)) == 40
    assert 146 < budget.limit(step("b", "", 1000)) <= 150 - RESERVE


WHOLE = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tools.budget import Budget, Check, Step
code = {code!r}
planned = [Step(name, "", ("-c", code.replace("STEP", name)), 30, 0.1) for name in ("one", "two", "three")]
Check(planned, Path({out!r}), Budget(100), {{}}, {resume}).run()
"""


def whole(out: Path, resume: bool, **variables: str) -> "subprocess.Popen[str]":
    """A whole check in a process of its own: three steps that write a row each; that which SLEEPS names then sleeps."""
    then = "time.sleep(60 * (os.environ.get('SLEEPS') == 'STEP'))"
    code = ROW.format(path=str(out / ROWS), step="STEP", says="STEP", then=then)
    return subprocess.Popen(
        [sys.executable, "-c", WHOLE.format(root=str(ROOT), code=code, out=str(out), resume=resume)],
        stdout=subprocess.PIPE, text=True, env=os.environ | variables,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell has it ignored
    )  # fmt: skip


def of(leader: int) -> list[int]:
    """The processes that descend from one."""
    children = [pid for pid, (parent, _) in processes.process_table().items() if parent == leader]
    return children + [pid for child in children for pid in of(child)]


@pytest.mark.parametrize("at", ["one", "two", "three"])
def test_rows_survive_when_the_whole_check_is_killed_at_any_step(tmp_path, at):
    names = ["one", "two", "three"]
    before = names[: names.index(at)]
    process = whole(tmp_path, False, SLEEPS=at)
    wait_for(lambda: said(tmp_path) == [*before, at])
    running = of(process.pid)
    assert running
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(alive, running)))  # the step ends with the check
    found = summary(tmp_path)
    assert said(tmp_path) == [*before, at]
    assert [found[name]["outcome"] for name in names] == [
        *["passed"] * len(before), "running", *["not begun"] * (2 - len(before))
    ]  # fmt: skip
    known = read_results(tmp_path)[at]
    assert (known.outcome, known.why) == ("timed out", "the check itself was killed")

    told = whole(tmp_path, True).communicate()[0]
    assert [name for name in names if f"{name}: passed (kept from before)" in told] == before
    assert said(tmp_path) == names  # once each
    assert [each["outcome"] for each in summary(tmp_path).values()] == ["passed"] * 3


@pytest.mark.whole
def test_a_check_that_is_asked_to_end_ends_its_step_and_says_so(tmp_path):
    process = whole(tmp_path, False, SLEEPS="two")
    wait_for(lambda: said(tmp_path) == ["one", "two"])
    running = of(process.pid)
    process.send_signal(signal.SIGINT)
    process.communicate()
    wait_for(lambda: not any(map(alive, running)))
    found = summary(tmp_path)
    assert (found["two"]["outcome"], found["two"]["why"]) == ("failed", "the check itself was stopped")
    assert found["two"]["rows"] == 1


def test_the_next_call_goes_on_with_what_is_missing_or_has_changed(tmp_path, monkeypatch):
    """Of each step its last row remains. What is fixed between the calls is a file that the steps read."""
    monkeypatch.setattr("tools.budget.ROOT", tmp_path)
    (tmp_path / "code.py").write_text("first")
    out = tmp_path / "out"
    reads = f"open({str(tmp_path / 'code.py')!r}).read()"

    def planned(least: float = 0.1) -> list[Step]:
        code = ROW.format(path=str(out / ROWS), step="STEP", says="SAYS", then="sys.exit(FAILS)").replace(
            "'SAYS'", reads
        )
        steady, fails = code.replace("FAILS", "0"), code.replace("FAILS", f"{reads} == 'first'")
        return [
            step("same", steady.replace("STEP", "same"), depends=("other*.py",)),
            step("changed", steady.replace("STEP", "changed"), depends=("co*.py",)),
            step("failed", fails.replace("STEP", "failed")),
            step("late", steady.replace("STEP", "late"), least=least),
        ]

    passed, found = check(planned(least=1e4), out)
    assert not passed
    assert said(out) == ["first"] * 3
    assert [each["outcome"] for each in found.values()] == ["passed", "passed", "failed", "not begun"]

    (tmp_path / "code.py").write_text("second")
    passed, found = check(planned(), out, resume=True)
    assert passed
    assert said(out) == ["first", "second", "second", "second"]
    assert [each["why"] for each in found.values()] == ["kept from before", "", "", ""]
    assert [each["rows"] for each in found.values()] == [1, 1, 1, 1]
    log = (out / "bench.log").read_text()
    assert [log.count(f"== {name}: python") for name in found] == [1, 1, 1, 1]

    _, found = check(planned(), out, resume=True)
    assert [each["why"] for each in found.values()] == ["kept from before"] * 4
    assert said(out) == ["first", "second", "second", "second"]


def test_an_attempt_that_leaves_nothing_does_not_take_what_an_earlier_one_left(tmp_path):
    check([writes("step", tmp_path, "a", "sys.exit(1)"), writes("other", tmp_path, "b")], tmp_path)
    passed, found = check(
        [step("step", "import sys; sys.exit(2)"), writes("other", tmp_path, "b")], tmp_path, resume=True
    )
    assert not passed
    assert (found["step"]["status"], found["step"]["rows"]) == (2, 1)
    assert said(tmp_path) == ["a", "b"]
    passed, found = check([step("step", "pass", least=1e9)], tmp_path, resume=True)
    assert found["step"]["why"] == "297 s left, but it needs at least 1e+09 s; before: failed"
    assert (found["step"]["rows"], said(tmp_path)) == (1, ["a", "b"])


def test_half_a_row_of_a_process_that_was_killed_goes(tmp_path):
    torn = f'rows = open({str(tmp_path / ROWS)!r}, "ab"); rows.write(bytes.fromhex("7b22"))'
    planned = [writes("torn", tmp_path, "whole", torn), writes("next", tmp_path, "next")]
    assert check(planned, tmp_path)[0]
    assert said(tmp_path) == ["whole", "next"]
    assert all(map(json.loads, (tmp_path / ROWS).read_text().splitlines()))


def test_only_some_steps(tmp_path):
    planned = [writes(name, tmp_path, name) for name in ("one", "two")]
    passed, found = check(planned, tmp_path, only=["two"])
    assert passed
    assert [(each["outcome"], each["why"]) for each in found.values()] == [
        ("skipped", "not in --only"), ("passed", "")
    ]  # fmt: skip
    check(planned, tmp_path, only=["one"], resume=True)
    assert said(tmp_path) == ["two", "one"]
    _, found = check(planned, tmp_path, only=["one"], resume=True)  # asked for by name: again
    assert [each["why"] for each in found.values()] == ["", ""]
    assert said(tmp_path) == ["two", "one"]


def test_a_call_goes_on_in_a_copy_of_a_folder_that_may_not_be_written(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    check([writes("one", before)], before)
    for path in before.iterdir():
        path.chmod(0o444)
    before.chmod(0o555)
    copied(before, after)
    _, found = check([writes("one", before), writes("two", after, "b")], after, resume=True)
    before.chmod(0o755)
    assert [each["why"] for each in found.values()] == ["kept from before", ""]
    assert (said(before), said(after)) == (["a"], ["a", "b"])


def test_the_steps_fit_three_calls_of_five_minutes(gpu_check):
    planned = gpu_check.steps()
    start = 12  # seconds, at most: Python, torch and what it is asked before the first step
    names = [each.name for each in planned]
    assert names == ["machine", "kernels", "cnn", "packs", "parts", "grid", "tests", "pipelines", "pretrained"]
    for call in (planned[:3], planned[3:6], planned[6:]):
        assert sum(each.limit for each in call) <= 300 - RESERVE - start
    for each in planned:
        assert each.least < each.limit / 2
        assert each.arguments[0] == "-m" or (ROOT / each.arguments[0]).exists()
        for glob in each.depends:
            assert any(ROOT.glob(glob)), glob
    named = {glob for each in planned for glob in each.depends}
    ours = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("bench/gpu/*.py")}
    assert ours == {glob for glob in named if glob.startswith("bench/gpu/")}


def test_the_folder_has_few_small_files(gpu_check):
    from tools.budget import FILES

    written = {word.removeprefix("{out}/") for each in gpu_check.steps() for word in each.arguments if "{out}" in word}
    written |= {each.log for each in gpu_check.steps()} | {SUMMARY}
    assert written == set(FILES)
    assert len(FILES) < 8  # one more while it is being replaced
    assert len(gpu_check.steps()) * evidence.LOG_BYTES < 16 << 20
    assert all(re.fullmatch(r"[a-z.]+", name) for name in written)


def test_a_step_changes_with_its_files_and_not_with_others(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.budget.ROOT", tmp_path)
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "a.py").write_text("a")
    one = step("one", "pass", depends=("kernels/**/*.py",))
    first = one.fingerprint()
    (tmp_path / "b.py").write_text("b")
    assert one.fingerprint() == first
    (tmp_path / "kernels" / "b.py").write_text("b")
    second = one.fingerprint()
    (tmp_path / "kernels" / "b.py").write_text("c")
    assert len({first, second, one.fingerprint(), step("one", "other", depends=one.depends).fingerprint()}) == 4


def test_the_steps_are_listed(gpu_check, capsys):
    gpu_check.main(["--list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [each.name for each in gpu_check.steps()]
    assert all("s  " in line and len(line) <= 100 for line in lines)


def test_what_was_measured_is_at_the_end_of_the_output(gpu_check, tmp_path, capsys):
    planned = [writes("cnn", tmp_path, "graph: 123 images/s"), writes("packs", tmp_path, "x" * 500, "sys.exit(7)")]
    work = Check(planned, tmp_path, Budget(), {}, False)
    work.run()
    evidence.put(
        tmp_path / "tests.jsonl",
        b'{"nodeid": "a.py::b", "outcome": "failed", "reason": "assert 1 == 2"}\n'
        b'{"nodeid": "c", "outcome": "passed"}\n',
    )
    capsys.readouterr()
    gpu_check.report(work, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cnn: graph: 123 images/s"
    assert lines[1].startswith("packs: xxx")
    assert len(lines[1]) == 160
    assert lines[2:4] == ["tests: a.py::b failed: assert 1 == 2", "tests: 1 failed, 1 passed"]
    assert re.fullmatch(r"cnn +passed +0\.\d +30 +1 *", lines[6])
    assert all(len(line) <= 80 for line in lines[4:8])
    assert "rows.jsonl" in lines[-1]


@pytest.mark.whole
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_nothing_is_run(tmp_path):
    command = ["make", "gpu-check", f"PYTHON={sys.executable}", f"OUT={tmp_path / 'out'}", "COMMIT=abcdef0+"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the GPU check cannot run: torch sees no CUDA device" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--resume", "nowhere"], "there is no summary.json in nowhere; leave --resume out"),
        (["--commit", "main"], "'main' is no commit"),
        (["--only", "sleep"], "invalid choice: 'sleep'"),
    ],
)
def test_what_cannot_be_done_is_refused(gpu_check, arguments, said, capsys, monkeypatch):
    monkeypatch.setenv("FASTCIFAR_COMMIT", "")
    with pytest.raises(SystemExit) as refused:
        gpu_check.main(["--rehearse", *arguments])
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_rehearsal_of_the_tests(tmp_path):
    """From the command to its folder, on the CPU."""
    out = str(tmp_path / "out")
    command = [sys.executable, "tools/gpu_check.py", "--rehearse", "--only", "tests"]
    done = subprocess.run([*command, "--out", out], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^tests: \d+ passed$", done.stdout, re.MULTILINE)
    found = json.loads((tmp_path / "out" / SUMMARY).read_text())
    assert found["environment"]["python"]
    assert [each["outcome"] for each in found["steps"]].count("skipped") == len(found["steps"]) - 1
    lines = evidence.read_rows(tmp_path / "out" / "tests.jsonl")
    assert {line["outcome"] for line in lines} == {"passed"}
    assert next(each for each in found["steps"] if each["name"] == "tests")["rows"] == len(lines) > 5


LACKING = """
import sys
from importlib.machinery import PathFinder

class Lacking(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        found = super().find_spec(name, path, target)
        lacks = name in ("hypothesis", "sklearn", "py7zr", "ffcv") and found and "site-packages" in str(found.origin)
        return PathFinder.find_spec(name, [at for at in sys.path if "site-packages" not in at]) if lacks else found

sys.meta_path[sys.meta_path.index(PathFinder)] = Lacking
"""


@pytest.mark.slow
def test_without_hypothesis_its_tests_are_skipped_and_all_can_be_collected(tmp_path):
    """As on a machine lent for its GPU, which has torch and pytest and little else."""
    (tmp_path / "sitecustomize.py").write_text(LACKING)
    report = tmp_path / "junit.xml"
    chosen = "spec_s_tables or any_spec or on_cuda_a_run_learns"
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "-k", chosen]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, ROOT))),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # Hypothesis's plugin would import it
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    skipped = {
        case.get("name").partition("[")[0]: case.find("skipped") for case in ElementTree.parse(report).iter("testcase")
    }
    assert skipped["test_a_spec_s_tables_are_made_once_per_device"] is None
    assert skipped["test_any_spec_under_any_seed"].get("message") == "Hypothesis is not installed"
    assert "test_on_cuda_a_run_learns_and_goes_on" in skipped
