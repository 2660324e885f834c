"""fastcifar: a benchmark of data pipelines that are proven equal, and a fast CIFAR-10 trainer.

The names in PUBLIC are imported when they are first used, so that ``import fastcifar`` takes no time.
``fastcifar.pipelines`` and ``fastcifar.kernels`` live in ``pipelines/`` and ``kernels/`` at the top of a checkout.
An installed package has them as sub-folders; an uninstalled checkout finds them through the bridge below.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from fastcifar.version import __version__ as __version__

PUBLIC = {
    "Augment": "augment",
    "Batch": "pipeline",
    "Dataset": "data.dataset",
    "Loader": "loader",
    "PROTOCOLS": "experiments",
    "Pipeline": "pipeline",
    "RECIPES": "recipes",
    "RunSpec": "runs.spec",
    "convert": "data.convert",
    "headline_runs": "runs.plan",
    "open_pipeline": "pipeline",
    "recipe": "recipes",
    "train": "training.loop",
    "train_run": "training.api",
}
"""The public names of the library, each with the module that defines it."""

_package = Path(__file__).resolve().parent
if not (_package / "kernels").is_dir():  # an uninstalled or editable checkout
    __path__.append(str(_package.parent))


def __getattr__(name: str) -> Any:
    """Import and return a name of PUBLIC. Raises AttributeError for any other name."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'fastcifar' has no attribute {name!r}; it has {', '.join(PUBLIC)}")
    return getattr(import_module(f"fastcifar.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])
