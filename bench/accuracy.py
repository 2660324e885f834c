"""Write the accuracies of the finished runs below a folder as rows, each with the environment of its run.

fastcifar train --exp 2 --data data/cifar10 --set recipe=none
python bench/accuracy.py --runs runs
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lib import rows
from fastcifar.runs.directory import find_runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "accuracy-cpu.jsonl")
    options = parser.parse_args()
    collected = []
    for directory in find_runs(options.runs):
        summary = directory.summary()
        if summary is None:
            print(f"left out, because it is not finished: {directory.path.name}")
            continue
        run = json.loads((directory.path / "run.json").read_bytes())
        collected.append({"run_id": directory.path.name, **run["spec"], **summary, "environment": run["environment"]})
    if not collected:
        sys.exit(f"no finished run below {options.runs}; train some with fastcifar train, or name their folder: --runs")
    rows.write(collected, options.out)
    print(f"{len(collected)} runs in {options.out}")


if __name__ == "__main__":
    main()
