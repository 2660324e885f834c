"""Write the tables of results into README.md, docs/ and other pages, from the committed rows.

    python bench/readme.py

A table stands between ``<!-- rows NAME -->`` and ``<!-- end -->``. NAME is a file of bench/results, or several files
with a space between them. A test fails where a page differs from its rows.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lib import rows
from bench.tables import claims, compiled, gpu, kernels, loader, networks, pretrained, reliability, throughput, training

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- rows (\S+(?: \S+)*) -->\n).*?(<!-- end -->)", re.DOTALL)

# for each page: the files of rows, in the page's order, and the function that renders them
PAGES: dict[Path, dict[str, Callable[..., str]]] = {
    ROOT / "README.md": {
        "gpu-check-h100.jsonl gpu-check-h200.jsonl training-cpu.jsonl parity-cpu.jsonl": claims.claims
    },
    ROOT / "docs" / "benchmarks.md": {
        "gpu-check-h100.jsonl": gpu.measured,
        "gpu-check-h200.jsonl": gpu.packs,
        "throughput-cpu.jsonl": throughput.throughput,
        "feeding-cpu.jsonl": throughput.feeding,
        "loader-cpu.jsonl": loader.own_cost,
        "loaders-cpu.jsonl": loader.contests,
        "kernels-cpu.jsonl": kernels.kernels_on_cpu,
        "parity-cpu.jsonl": kernels.parity,
        "openmp-cpu.jsonl": training.openmp,
        "training-cpu.jsonl": training.training,
        "packs-cpu.jsonl": training.packs,
        "packs-cpu-avx2.jsonl": training.packs,
        "accuracy-cpu.jsonl": training.accuracy,
        "finetuning-cpu.jsonl": training.finetuning,
        "transfer-cpu.jsonl": training.transfer,
    },
    ROOT / "docs" / "networks.md": {"networks-cpu.jsonl": networks.networks},
    ROOT / "docs" / "pretrained.md": {
        "photographs-cpu.jsonl": pretrained.photographs,
        "pretrained-cpu.jsonl": pretrained.pretrained,
        "diagnoses-cpu.jsonl": pretrained.suspects,
    },
    ROOT / "docs" / "report.md": {"verdicts.jsonl": reliability.verdicts},
    ROOT / "docs" / "reliability.md": {
        "verification-cpu.jsonl": reliability.cost,
        "campaign-cpu.jsonl": reliability.campaign,
    },
    ROOT / "kernels" / "README.md": {
        "gpu-check-h100.jsonl": compiled.launches,
        "compiled-sm90-triton36.jsonl": compiled.compiled,
        "compiled-sm90.jsonl": compiled.compiled_candidates,
    },
    ROOT / "fastcifar" / "packs" / "README.md": {
        "gpu-check-h200.jsonl": gpu.packs,
        "packs-candidates-h100.jsonl": gpu.candidates,
        "arithmetic-h100.jsonl": compiled.arithmetic,
    },
}


def page_text(page: Path) -> str:
    """Return the page's text with every table made again from the rows."""

    def block(match: re.Match[str]) -> str:
        return (
            match[1] + PAGES[page][match[2]](*(rows.read(rows.RESULTS / name) for name in match[2].split())) + match[3]
        )

    return BLOCK.sub(block, page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for page in PAGES:
        page.write_text(page_text(page), encoding="utf-8")
