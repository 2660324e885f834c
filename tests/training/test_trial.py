"""Work in a process of its own: its result, its errors, and its end after a time limit."""

import os
import subprocess
import sys
import time

import pytest

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
    assert within(60, product, 6, 7) == 42
    with pytest.raises(RuntimeError, match=r"^the first line$"):
        within(60, fails)
    with pytest.raises(RuntimeError, match="its process has ended"):
        within(60, dies)


def test_after_its_time_the_process_and_its_children_are_ended(tmp_path):
    for seconds in (5, 60):  # on a busy machine, a process may take seconds to begin
        with pytest.raises(TooSlow):
            within(seconds, lingers, str(tmp_path))
        if (tmp_path / "child").exists():
            break
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        try:
            with open(f"/proc/{child}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.05)
    pytest.fail(f"process {child} is still running")
