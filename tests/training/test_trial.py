"""Work in a process of its own: its result, its errors, and its end after a time limit."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT

from fastcifar.training import trial
from fastcifar.training.trial import TooSlow, within

pytestmark = pytest.mark.whole


def product(a: int, b: int) -> int:
    return a * b


def fails() -> None:
    raise ValueError("the first line\nand more")


def dies() -> None:
    os._exit(3)


def lingers(folder: str) -> None:
    """Start a child, as a compiler would be, and never end."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(f"{folder}/child", "w") as file:
        file.write(str(child.pid))
    time.sleep(600)


def test_the_result_and_the_errors_come_back():
    answer, seconds = within(60, print, product, 6, 7)
    assert answer == 42
    assert 0 < seconds < 60
    with pytest.raises(RuntimeError, match=r"^the first line$"):
        within(60, print, fails)
    with pytest.raises(RuntimeError, match="its process has ended"):
        within(60, print, dies)


def test_after_its_time_the_process_and_its_children_are_ended(tmp_path):
    for seconds in (5, 60):  # on a busy machine, a process may take seconds to begin
        with pytest.raises(TooSlow):
            within(seconds, print, lingers, str(tmp_path))
        if (tmp_path / "child").exists():
            break
    ended(int((tmp_path / "child").read_text()))


def test_it_ends_with_its_parent(tmp_path):
    """Also where the parent is killed, so that it can end nothing."""
    code = "import sys, test_trial as t; t.within(600, print, t.lingers, sys.argv[1])"
    here = os.pathsep.join(map(str, (ROOT, ROOT / "tests", Path(__file__).parent)))
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=os.environ | {"PYTHONPATH": here})
    try:
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
            assert parent.poll() is None
            time.sleep(0.05)
    finally:
        parent.kill()
        parent.wait()
    ended(int((tmp_path / "child").read_text()))


def test_news_come_while_it_works_and_what_it_prints_is_dropped(monkeypatch, capfd):
    monkeypatch.setattr(trial, "NEWS", 0.01)
    news = []
    within(60, news.append, print, "not to be shown")
    assert news == sorted(news)
    assert len(news) > 1
    assert capfd.readouterr() == ("", "")


def ended(pid: int) -> None:
    """Wait until a process has ended."""
    for _ in range(200):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still running")
