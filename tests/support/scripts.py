"""Load scripts of the checkout that are not part of the package as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from support import ROOT


def script(path: str) -> ModuleType:
    """Return a file of the checkout as a module, which is run only once."""
    name = Path(path).stem
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where its dataclasses look for their annotations
        spec.loader.exec_module(module)
    return sys.modules[name]
