"""Libraries that cannot be imported, as stand-ins in a folder for PYTHONPATH."""

from importlib.util import find_spec
from pathlib import Path


def broken_torchvision(folder: Path) -> None:
    """Write a torchvision that fails as one of another build than torch's does. It has the real one's networks."""
    found = find_spec("torchvision")
    assert found is not None
    assert found.origin is not None
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    (package / "models").symlink_to(Path(found.origin).parent / "models")
