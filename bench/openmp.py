"""Time the training of experiment 2 on the CPU under settings of OpenMP, on idle cores and with busy neighbours.

    python bench/openmp.py

OpenMP's threads wait for the next parallel loop. A thread that spins while it waits takes the core from a neighbour,
and from the thread for which it waits. The settings train in turns, each in a process of its own, with 0, 1, 2 and 4
neighbours that each keep a core busy. The images are synthetic.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lib import rows
from bench.lib.apart import Apart, in_turns
from fastcifar.data.convert import convert
from fastcifar.system import load
from fastcifar.system.measure import environment
from fastcifar.system.scratch import Scratch

SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 20,000": {"GOMP_SPINCOUNT": "20000"},
    "spin 1,000": {"GOMP_SPINCOUNT": "1000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
STEPS = {0: 160, 1: 40, 2: 8, 4: 8}
"""The steps of a turn, by the number of neighbours: fewer steps take as long on busy cores."""
BATCH = 128


class Training:
    """The training of experiment 2's headline configuration, whose epoch is a number of steps."""

    def __init__(self, data: str, steps: int) -> None:
        from fastcifar.data.dataset import Dataset
        from fastcifar.runs.plan import headline_runs, precision_of
        from fastcifar.system.devices import device_of
        from fastcifar.training.batches import open_pipelines
        from fastcifar.training.compile import steps_of
        from fastcifar.training.learner import Learner

        dataset, device = Dataset.open(Path(data)), device_of("cpu")
        (spec,) = headline_runs(2, dataset, seeds=[0], batch_size=BATCH, precision=precision_of("auto", device))
        self._training, validation = open_pipelines(spec, dataset, device)
        validation.close()
        self._steps = steps_of("none", Learner.new(spec, len(dataset.classes), device), self._training)
        self._count = steps

    def epoch(self) -> None:
        """Train the steps of a turn."""
        self._steps.epoch(1, self._count)


@contextmanager
def variables(chosen: dict[str, str]) -> Iterator[None]:
    """Set OpenMP's variables for the processes that start within this context. No other variable of OpenMP is set."""
    before = dict(os.environ)
    for name in load.variables():
        del os.environ[name]
    os.environ.update(chosen)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Run ``count`` processes within this context that each keep a core busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "openmp-cpu.jsonl")
    options = parser.parse_args()
    collected = []
    with Scratch() as scratch:
        dataset = convert(f"synthetic:{2 * max(STEPS.values()) * BATCH}", Path(scratch) / "dataset")
        for count, steps in STEPS.items():
            contestants = {}
            for name, chosen in SETTINGS.items():
                with variables(chosen):
                    contestants[name] = Apart(Training, str(dataset.path), steps)
            with neighbours(count):
                timings = in_turns(contestants, options.repeats)
            for contestant in contestants.values():
                contestant.close()
            for name, timing in timings.items():
                rated = rows.rates(timing, steps * BATCH)
                spread = f"{rated['images_per_s_min']:,.0f} to {rated['images_per_s_max']:,.0f}"
                print(f"{count} neighbours, {name}: {rated['images_per_s']:,.0f} images/s, {spread}", flush=True)
                collected.append({"bench": "openmp", "setting": name, "variables": SETTINGS[name],
                                  "neighbours": count, "device": "cpu", "batch_size": BATCH, **rated})  # fmt: skip
    around = environment()
    rows.write([{**row, "environment": around} for row in collected], options.out)
    print(f"rows in {options.out}")


if __name__ == "__main__":
    main()
