"""The logs of --log: for each one, a callback that gets the lines of a run's metrics."""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol

from fastcifar.errors import UsageError
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec
from fastcifar.runs.tensorboard import Events
from fastcifar.runs.trackers import MLflow, WandB
from fastcifar.system import cures


class Watcher(Protocol):
    """A callback for each line of a run's metrics, the lines of earlier sessions first. It is closed at the end."""

    def __call__(self, line: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


Log = Callable[[RunSpec, RunDirectory], Watcher]


class Silent:
    """A callback that does nothing."""

    def __init__(self, spec: RunSpec, directory: RunDirectory) -> None:
        pass

    def __call__(self, line: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


LOGS: Mapping[str, Log] = MappingProxyType({"none": Silent, "tensorboard": Events, "wandb": WandB, "mlflow": MLflow})
"""The makers of callbacks by the value of --log."""
LIBRARIES: Mapping[str, str] = MappingProxyType(
    {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
)
"""The module that a log needs. The extra of fastcifar and the package have the log's name."""


def log_of(name: str) -> Log:
    """Return the maker of callbacks for a value of --log.

    Raises UsageError for an unknown name, or where a library is missing.
    """
    if name not in LOGS:
        raise UsageError(f"--log {name!r} is not one of {', '.join(LOGS)}")
    if name in LIBRARIES:
        try:
            import_module(LIBRARIES[name])
        except ImportError as error:
            raise UsageError(
                f"--log {name} needs the extra {name}, which cannot be used here ({error}); {cures.extra(name)}"
            ) from error
    return LOGS[name]
