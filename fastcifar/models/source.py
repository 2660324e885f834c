"""The source of a module: its own file, and the files of the modules beside it that it imports."""

import ast
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

INSTALLED = ("site-packages", "dist-packages")


def sources_of(module: str, base: Path) -> dict[str, bytes]:
    """Return the sources that importing a module runs, by full name, without those of other projects.

    module: the full name. base: the folder in which the first part of the name lies. Sources are found by the import
    statements, also those inside functions. A module belongs to the project if its file lies in ``base``; among
    installed packages, if the first parts of the names are equal. Compiled modules and data files are left out.
    """
    top = module.partition(".")[0]
    found: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        for name in _with_parents(waiting.pop()):
            path = _file_of(name, base)
            if path is None or name in found or (base.name in INSTALLED and name.partition(".")[0] != top):
                continue
            found[name] = path.read_bytes()
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            waiting += _imports(found[name], package)
    return found


def digest_of(sources: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of sources and their names, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name} {len(sources[name])}\n".encode() + sources[name])
    return digest.hexdigest()


def _with_parents(name: str) -> Iterator[str]:
    """Yield the packages that contain a module, the outermost one first, then the module."""
    parts = name.split(".")
    return (".".join(parts[: n + 1]) for n in range(len(parts)))


def _file_of(name: str, base: Path) -> Path | None:
    path = base.joinpath(*name.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _imports(source: bytes, package: str) -> Iterator[str]:
    """Yield the full names that a source may import. package: the package that relative imports start from."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # its import raises the error
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            if origin:
                yield origin
            yield from (".".join(filter(None, (origin, alias.name))) for alias in node.names if alias.name != "*")
