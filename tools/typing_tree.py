"""Lay out build/typing/fastcifar like the installed package, as symbolic links, for mypy.

mypy finds modules by folder, but ``fastcifar.kernels`` and ``fastcifar.pipelines`` lie beside ``fastcifar/`` in the
checkout. Wheels do not need these links, because setup.py maps the folders.
"""

import argparse
import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / "build" / "typing" / "fastcifar"


def main() -> None:
    shutil.rmtree(TREE, ignore_errors=True)  # removes the links, never their targets
    TREE.mkdir(parents=True)
    entries = [entry for entry in (ROOT / "fastcifar").iterdir() if entry.name != "__pycache__"]
    for entry in [*entries, ROOT / "kernels", ROOT / "pipelines"]:
        (TREE / entry.name).symlink_to(os.path.relpath(entry, TREE))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
