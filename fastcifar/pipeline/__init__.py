"""The contract of input pipelines, their options, and the functions that find and open them.

The names are imported when they are first used, because torch takes a second, and a command that only checks a
pipeline's name (`names`) does not need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastcifar.pipeline.contract import Batch, Pipeline, Renderer
    from fastcifar.pipeline.finding import available, find_pipeline, open_pipeline, pipeline_names, require_pipeline
    from fastcifar.pipeline.request import Request

__all__ = [
    "Batch", "Pipeline", "Renderer", "Request", "available", "find_pipeline", "open_pipeline", "pipeline_names",
    "require_pipeline",
]  # fmt: skip

_HOME = {"Batch": "contract", "Pipeline": "contract", "Renderer": "contract", "Request": "request"}


def __getattr__(name: str) -> Any:
    """Import and return a name of ``__all__``. Raises AttributeError for any other name."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'finding')}"), name)
