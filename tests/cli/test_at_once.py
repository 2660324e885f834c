"""Commands that need no torch answer at once: little CPU time, little memory, and torch is not imported."""

import os
import subprocess
import sys
from typing import NamedTuple

import pytest
from support import ROOT
from support.written_runs import spec_of, write_run

SECONDS, MEGABYTES = 1.0, 150
CODE = """
import sys
from fastcifar.cli.app import main
sys.argv[0] = "fastcifar"
try:
    main()
finally:
    heavy = [name for name in ("torch", "torchvision", "numba", "matplotlib") if name in sys.modules]
    status = open("/proc/self/status").read()
    peak = int(status.partition("VmHWM:")[2].split()[0])  # in KiB
    print("peak:", peak, "imported:", *heavy, file=sys.stderr)
"""
REFUSALS = {
    "train --exp 9": "experiment 9",
    "train --exp 2 --seeds 1,1": "--seeds '1,1'",
    "train --exp 2 --model nosuch": "'nosuch'",
    "train --exp 2 --model nosuch:network": "there is no module nosuch",
    "train --exp 2 --model nosuch.py:network": "there is no file nosuch.py",
    "train --exp 2 --model nosuch.py:": "is not of the form package.module:factory",
    "train --exp 4 --model nosuch": "'nosuch'",
    "train --exp 4 --model resnet50 --set lr=-1": "lr -1.0 is outside",
    "train --exp 4 --weights nosuch.pth": "nosuch.pth: there is no such file",
    "train --exp 2 --weights some.pth": "trains from scratch",
    "train --exp 2 --protocol nosuch": "'nosuch'",
    "train --exp 2 --set nosuch=1": "--set nosuch",
    "train --exp 2 --set lr=-1": "lr -1.0 is outside",
    "train --exp 2 --set recipe=nosuch": "'nosuch'",
    "train --exp 2 --augment flip=2": "flip 2.0 is outside",
    "train --exp 2 --amp nosuch": "--amp 'nosuch'",
    "train --exp 2 --device nosuch": "device 'nosuch'",
    "train --exp 2 --compile nosuch": "--compile 'nosuch'",
    "train --exp 2 --pipeline Resident": "did you mean 'resident'",
    "train --exp 2 --log nosuch": "'nosuch'",
    "train --exp 2 --data nosuch": "there is no dataset at nosuch",
    "grid --exp x": "--exp 'x'",
    "grid --exp 9": "experiment 9",
    "grid --exp 2 --seeds 3-1": "--seeds '3-1'",
    "grid --exp 2 --only nosuch=1": "nosuch",
    "grid --exp 2 --only lr=0.3": "no configuration fits",
    "grid --exp 2 --only recipe=basic,erasng": "did you mean erasing",
    "grid --exp 2 --set lr=-1": "lr -1.0 is outside",
    "grid --exp 2 --budget soon": "--budget 'soon'",
    "grid --exp 2 --executor nosuch": "'nosuch'",
    "grid --exp 2 --way nosuch": "'nosuch'",
    "grid --exp 2 --device nosuch": "device 'nosuch'",
    "grid --exp 2 --model cnn": "--model cnn",
    "grid --exp 2 --model nosuch:network": "there is no module nosuch",
    "runs --sort nosuch": "--sort nosuch",
    "runs --only nosuch=1": "nosuch",
    "runs --diff a b": "a",
    "list nosuch": "'nosuch'",
    "report --runs nosuch": "there is no folder nosuch",
    "report --data nosuch": "there is no dataset at nosuch",
    "report --device nosuch": "device 'nosuch'",
    "report --test": "name the dataset of the runs with --data",
    "predict nosuch": "nosuch",
    "predict runs --split nosuch": "'nosuch'",
    "predict runs --tta nosuch": "'nosuch'",
    "predict runs --device nosuch": "device 'nosuch'",
    "predict runs --out submission.txt": "submission.txt",
    "preview --recipe nosuch": "'nosuch'",
    "preview --rows 0": "rows",
    "bench --recipes nosuch": "'nosuch'",
    "bench --devices nosuch": "'nosuch'",
    "bench --dtypes nosuch": "'nosuch'",
    "bench --models nosuch": "'nosuch'",
    "bench --pipelines Resident": "did you mean 'resident'",
    "bench --seconds 0": "--seconds 0",
    "bench --loader nosuch:make": "there is no module nosuch",
    "bench --data nosuch": "there is no dataset at nosuch",
    "bench --data data/cifar10 --batch-sizes 64,81": "batch size 81 is larger than the 80 training images",
    "bench --quick --batch-sizes 8001": "batch size 8001 is larger than the 8,000 training images",
    "convert nosuch dest": "nosuch",
    "convert digits dest --formats nosuch": "'nosuch'",
    "verify nosuch": "nosuch",
    "verify ~nobody_here/data": "path '~nobody_here/data'",
    "diagnose bn --device nosuch": "device 'nosuch'",
    "diagnose bn --data nosuch": "there is no dataset at nosuch",
    "diagnose bn --suspects nosuch": "suspect 'nosuch'",
    "diagnose bn --amp nosuch": "--amp 'nosuch'",
}


class Answered(NamedTuple):
    """The answer of a command in a new process. imported: of the large libraries. seconds: of CPU."""

    status: int
    said: str
    imported: str
    seconds: float
    megabytes: float


def answered(arguments: str, folder, dataset) -> Answered:
    """Run a command in a new process, in a folder whose data/cifar10 is a dataset."""
    (folder / "data").mkdir(exist_ok=True)
    if not (folder / "data/cifar10").exists():
        (folder / "data/cifar10").symlink_to(dataset.path)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with open(folder / "output", "w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, *arguments.split()], cwd=folder, env=environment, stdout=output, stderr=output
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said, _, facts = output.read().rpartition("peak: ")
        peak, _, imported = facts.partition(" imported:")
    return Answered(process.returncode, said, imported.strip(), used.ru_utime + used.ru_stime, int(peak) / 1024)


def at_once(arguments: str, folder, dataset) -> Answered:
    """Run a command that must be quick, small and without torch."""
    answer = answered(arguments, folder, dataset)
    assert answer.imported == "", answer
    assert answer.seconds < SECONDS, answer
    assert answer.megabytes < MEGABYTES, answer
    return answer


@pytest.mark.parametrize("arguments", ["runs", "list experiments", "list recipes", "list runs", "runs --csv -"])
def test_lists_are_answered_at_once(arguments, tmp_path, synthetic):
    write_run(tmp_path / "runs", spec_of(), [0.1, 0.2])
    answer = at_once(arguments, tmp_path, synthetic)
    assert answer.status == 0, answer


@pytest.mark.parametrize("arguments", REFUSALS)
def test_a_refusal_comes_at_once(arguments, tmp_path, synthetic):
    (tmp_path / "runs").mkdir()
    answer = at_once(arguments, tmp_path, synthetic)
    assert answer.status == 2, answer
    assert REFUSALS[arguments] in " ".join(answer.said.split())


@pytest.mark.whole
def test_the_pipelines_are_answered_at_once_when_asked_again(tmp_path, synthetic, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = answered("list pipelines", tmp_path, synthetic)
    again = at_once("list pipelines", tmp_path, synthetic)
    assert "torch" in first.imported
    assert (again.status, again.said) == (first.status, first.said) == (0, first.said)
