"""Write the verdicts of diagnoses as rows.

fastcifar diagnose bn --data data/cifar10 --recipe imagenet64-64 --images 3000 --out bn-64
python bench/diagnoses.py bn-64 ...
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lib import rows

KEPT = ("suspects", "seconds", "spec", "dataset", "images", "device", "environment")
"""The entries of a diagnosis's summary.json that a row has."""


def row_of(folder: Path) -> dict[str, Any]:
    """Return the row of a diagnosis. Ends the program where the folder holds none."""
    try:
        summary = json.loads((folder / "summary.json").read_bytes())
        return {"bench": "diagnoses", **{key: summary[key] for key in KEPT}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{folder} is no folder of fastcifar diagnose bn ({error!r}); name one that it made")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders that fastcifar diagnose bn made")
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "diagnoses-cpu.jsonl")
    options = parser.parse_args()
    rows.write([row_of(folder) for folder in options.folders], options.out)
    print(f"{len(options.folders)} diagnoses in {options.out}")


if __name__ == "__main__":
    main()
