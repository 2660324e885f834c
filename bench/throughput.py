"""Time the pipelines in images/s: ``fastcifar bench``, from a checkout.

python bench/throughput.py --quick
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fastcifar.cli.app import main

if __name__ == "__main__":
    sys.argv.insert(1, "bench")
    main()
