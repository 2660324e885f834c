"""Who may import whom: earlier layers never from later ones, and siblings never from each other."""

import ast

import pytest
from support import ROOT

LAYERS = [
    {"errors", "version"}, {"system"}, {"show"}, {"rng"}, {"augment"}, {"recipes"}, {"kernels"}, {"data"},
    {"pipeline", "models", "experiments"}, {"pipelines", "runs", "loader", "testing"}, {"training", "predict"},
    {"packs", "diagnose", "report", "throughput"}, {"grid"}, {"cli"}, {"__init__", "__main__", "tools"}, {"bench"},
]  # fmt: skip
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
FILES = sorted(
    path for top in ("fastcifar", "kernels", "pipelines", "bench", "tools") for path in (ROOT / top).rglob("*.py")
)


def part(name: str) -> str:
    """The layer's part that a module, by its full name or its path, belongs to."""
    return name.removeprefix("fastcifar.").partition(".")[0].replace("fastcifar", "__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_from_its_own_package_and_from_earlier_layers(path):
    mine = part(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [
                f"{node.module}.{alias.name}" if node.module == "fastcifar" else node.module for alias in node.names
            ]
        for other in {part(name) for name in names if name.partition(".")[0] in ("fastcifar", "bench", "tools")}:
            assert other == mine or RANK[other] < RANK[mine], f"{path.name}:{node.lineno} imports from {other}"
