"""A result to be pasted into an issue: whole, and without anything that tells whose machine it was."""

import getpass
import platform
import re

import pytest
from support import ROOT
from support.markup import marked
from support.throughput import OUT, made

from fastcifar.errors import UsageError
from fastcifar.throughput import rows, share

REASON = (
    'its process ended with exit status 1; its last output was: File "/home/{user}/my work/mine.py", line 3, on '
    "{host}: no /home/{user}/data, C:\\Users\\{user}\\data or ~/data; 1/4 of 100 images/s"
)


def result():
    rows = [made("resident", [240.0, 264, 230, 240, 240]), made("ffcv", [100.0, 110, 90, 100, 100])]
    rows += [made("/home/jane_doe/my work/mine.py:make", [1.0]) | OUT]
    rows[-1]["reason"] = REASON.format(user="jane_doe", host="janes-laptop")
    about = rows[0]["environment"] | {
        "os": "Linux-6.1",
        "dirty": True,
        "gpus": [{"name": "NVIDIA H100"}],
        "threads": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "1000", "torch": 2},
    }
    return [row | {"environment": about, "dataset": "CIFAR-10", "turn_seconds": 2.0} for row in rows]


@pytest.fixture
def jane(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "jane_doe")
    monkeypatch.setattr(platform, "node", lambda: "janes-laptop")


@pytest.mark.usefixtures("jane")
def test_all_that_a_reader_needs():
    text = share.markdown([row | {"load": {"busy_cores": 1.0, "load_average": 2.0}} for row in result()])
    assert text.startswith(share.MARK)
    assert "**resident is 2.4 times as fast as the next, ffcv, on none.**" in text
    for part in (
        "on CIFAR-10", "batch 512, float32, cpu, 2 threads", "the median of 5 turns of at least 2 s",
        "c, 2 cores; Linux-6.1; Python 3, torch 1", "; GOMP_SPINCOUNT=1000; commit abc with other changes",
        "    fastcifar bench --recipes none --pipelines resident,ffcv --batch-sizes 512 --devices cpu --dtypes float32 "
        "--threads 2 --repeats 5 --seconds 2 --data DIRECTORY --loader mine.py:make\n",
        "| pipeline | images/s | of the fastest |", "| resident | 240 | 100.0% | 230-264 |",
        "- mine.py:make has no speed (none): its process ended with exit status 1",
        "- Other programs used up to 1.0 cores (load average 2.0)", "- The code was changed after its commit.",
    ):  # fmt: skip
        assert part in text
    assert "H100" not in text  # no row was measured on it
    assert "NVIDIA H100; c, 2 cores" in share.markdown([row | {"device": "cuda:0"} for row in result()])


@pytest.mark.usefixtures("jane")
def test_nothing_tells_whose_machine_it_was():
    text = share.markdown(result())
    for secret in ("jane", "/home", "C:\\", "~/", "my work"):
        assert secret not in text
    assert 'File "mine.py", line 3, on HOST: no data, data or data; 1/4 of 100 images/s' in text


def test_ones_own_loader_is_told_from_a_pipeline_of_a_package():
    rows = [made("theirs.module:fast", [2.0]), made("mine.module:make", [1.0])]
    assert "--pipelines theirs.module:fast " in share.markdown(rows)
    assert "--loader mine.module:make\n" in share.markdown(rows)


def test_the_committed_rows_can_be_shared():
    for name in ("throughput", "feeding", "loaders"):
        text = share.markdown(rows.contests(ROOT / "bench" / "results" / f"{name}-cpu.jsonl"))
        assert "AMD EPYC, 2 cores" in text
        assert "bench/rivals/" not in text


def test_only_a_file_of_its_own_is_replaced(tmp_path):
    path = tmp_path / "result.md"
    share.write(result(), path)
    share.write(result(), path)
    foreign = tmp_path / "README.md"
    foreign.write_text("# Mine\n")
    with pytest.raises(UsageError, match=r"README.md was not made by fastcifar bench --share.*README-bench.md"):
        share.write(result(), foreign)
    assert foreign.read_text() == "# Mine\n"
    with pytest.raises(UsageError, match=r"a shared result is Markdown; call it result.txt.md"):
        share.require_own(tmp_path / "result.txt")
    with pytest.raises(UsageError, match="there is no folder"):
        share.require_own(tmp_path / "none" / "result.md")
    share.require_own(None)


def test_no_name_of_a_row_leaves_its_place():
    hostile = marked([made("a", [9.0]), made("b", [5.0], verified=False, reason="why")], mark="\n\n<img src=x>![a](b)")
    text = share.markdown([row | {"device": "cpu"} for row in hostile])
    for line in text.splitlines()[1:]:
        assert line.startswith("    fastcifar bench") or not re.search(r"<img|!\[a\]\(", line), line
