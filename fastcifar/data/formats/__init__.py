"""Other file formats of a dataset's arrays, for pipelines that need them; each file is read back and compared."""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from fastcifar.errors import UsageError, unknown
from fastcifar.system import cures

FORMATS = ("raw", "ffcv", "dali")  # each but raw is a module of this package, with write(dataset) and version()


def extra_formats(formats: Sequence[str]) -> dict[str, ModuleType]:
    """Return the modules of the formats other than raw, each once.

    Raises UsageError for an unknown name or a missing library.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    return {name: _imported(name) for name in FORMATS if name in formats and name != "raw"}


def writable_formats() -> list[str]:
    """Return the formats that can be written here, as their libraries are installed."""

    def writable(form: str) -> bool:
        try:
            extra_formats([form])
        except UsageError:
            return False
        return True

    return [form for form in FORMATS if writable(form)]


def _imported(name: str) -> ModuleType:
    try:
        return import_module(f"fastcifar.data.formats.{name}")
    except (ImportError, RuntimeError, AttributeError, OSError) as error:  # FFCV imports torchvision, which may fail
        raise UsageError(
            f"the format {name!r} cannot be written, as its library does not load ({error}): "
            f"{cures.extra(name)}, or leave it out of --formats"
        ) from error
