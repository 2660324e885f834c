"""A table of rows in Markdown, and the line under it that says where they are from."""

from typing import Any

Rows = list[dict[str, Any]]


def table(header: list[str], body: list[list[str]]) -> str:
    """The first column to the left, the others to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def under(text: str, found: Rows, packages: tuple[str, ...] = ("torch", "torchvision", "numba")) -> str:
    """The text, then machine, versions and commits of the rows."""
    around = found[0]["environment"]
    dirty = {str(row["environment"]["commit"])[:8]: row["environment"]["dirty"] for row in found}
    commits = ", ".join(f"{commit}{' with other changes' if dirty[commit] else ''}" for commit in dirty)
    versions = ", ".join(f"{name} {around['versions'][name]}" for name in packages)
    return (
        f"{text}\n{around['cpu']}, {around['cores']} cores; Python {around['python']}, {versions}; commit {commits}.\n"
    )
